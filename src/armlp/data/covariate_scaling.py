"""Covariate scaling: numbers in units of their spread in training, and categories as codes of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armlp.data.covariates import ROLES, CovariateColumn
from armlp.data.panel import Panel
from armlp.errors import UserError

# By role, a list of columns: their `name` with `mean` and `std`, or with `categories`. Plain values, for checkpoints.
Statistics = Mapping[str, list[dict[str, Any]]]
# A spread this small beside the mean is rounding, and the column a constant.
_LEAST_SPREAD = 1e-6


def fit_statistics(panel: Panel, ends: Tensor) -> Statistics:
    """What the covariates are in training.

    Args:
        panel: As it was read.
        ends: `[S]` int64 row at which each series' training part ends; nothing after it is looked at.
    """
    if not any(panel.covariate_columns.values()):
        return {role: [] for role in ROLES}
    seen = panel.before(ends)
    values = {"known": panel.known[seen], "past": panel.past[seen], "static": panel.static[ends > 0]}
    return {
        role: [
            {"name": column.name} | _statistics_of(values[role][:, place].double().numpy(), column)
            for place, column in enumerate(panel.covariate_columns[role])
        ]
        for role in ROLES
    }


def _statistics_of(values: np.ndarray, column: CovariateColumn) -> dict[str, Any]:
    values = values[~np.isnan(values)]
    if column.categories is not None:
        return {"categories": [column.categories[code] for code in np.unique(values.astype(np.int64))]}
    mean, std = (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
    return {"mean": mean, "std": std if std > _LEAST_SPREAD * max(abs(mean), _LEAST_SPREAD) else 1.0}


def covariate_sizes(statistics: Statistics) -> dict[str, list[int]]:
    """By role, how many codes each column has: 0 for numbers; a category has the code 0 for one never seen."""
    return {
        role: [len(column["categories"]) + 1 if "categories" in column else 0 for column in statistics[role]]
        for role in ROLES
    }


def scale_covariates(panel: Panel, statistics: Statistics) -> Panel:
    """The panel with its covariates as the network takes them; a number that is missing becomes the mean.

    Raises:
        UserError: The columns, or their kinds, are not those of training.
    """
    scaled = {}
    for role in ROLES:
        columns, trained = panel.covariate_columns[role], statistics[role]
        given, expected = [column.name for column in columns], [column["name"] for column in trained]
        if given != expected:
            raise UserError(
                f"--data.{role}_covariates: {given} was given, but the model was trained with {expected}; leave the "
                "option out, or train anew."
            )
        raw: Tensor = getattr(panel, role)
        scaled[role] = raw.clone()
        for place, (column, of_training) in enumerate(zip(columns, trained, strict=True)):
            scaled[role][:, place] = _scaled(raw[:, place], column, of_training, f"--data.{role}_covariates")
    return replace(panel, known=scaled["known"], past=scaled["past"], static=scaled["static"])


def _scaled(values: Tensor, column: CovariateColumn, trained: Mapping[str, Any], option: str) -> Tensor:
    if len(values) and values.isnan().all():
        if "mean" in trained and option == "--data.known_covariates":
            raise UserError(f"{option}: column '{column.name}' is empty; fill it, or train without it.")
        # Such a column has no type: it may be of categories that are all empty.
        column = column._replace(categories=None if "mean" in trained else ("",))
        values = values if "mean" in trained else torch.zeros_like(values)
    if (column.categories is None) != ("mean" in trained):
        kinds = ("categories", "numbers") if "mean" in trained else ("numbers", "categories")
        raise UserError(
            f"{option}: column '{column.name}' holds {kinds[0]}, but the model was trained with {kinds[1]}; convert it."
        )
    if column.categories is None:
        return ((values - trained["mean"]) / trained["std"]).nan_to_num(0.0)
    codes = {name: code for code, name in enumerate(trained["categories"], start=1)}
    lookup = torch.tensor([*(codes.get(name, 0) for name in column.categories), 0], dtype=values.dtype)
    return lookup[values.nan_to_num(-1.0).long()]
