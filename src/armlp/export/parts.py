"""The parts of a rollout that become graphs: what comes before the steps, one step, and what comes after them.

All of it is the network's own code, so that what is exported cannot drift from what `rollout` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from armlp.data.covariate_scaling import ColumnScaling
from armlp.data.covariates import Covariates
from armlp.evaluation.conformal import recalibrate
from armlp.evaluation.quantiles import interval_quantiles
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import SCALERS, Scaling

COVARIATES = Covariates._fields


class BeforeLoop(nn.Module):
    """From the inputs of a forecast to what its steps begin with, a row for each member, series and path.

    Args:
        network: The network.
        scalings: Of the columns of covariates, by role; those of a role that is not there are taken as they come.

    Attributes:
        inputs: Names of what it takes.
        carried: Names of what a step hands to the next.
        fixed: Names of what all steps share.
        stepped: Names of what has a first axis of steps, of which each step sees its own part.
    """

    def __init__(self, network: AutoregressiveMLP, scalings: Mapping[str, ColumnScaling]) -> None:
        super().__init__()
        self.network, self.scalings = network, scalings
        self.title = "how this model scales its context or covariates"
        self.remedy = f"train with another `scaler` than {SCALERS.name_of(type(network.scaler))}"
        roles = [role for role in COVARIATES if network.inputs.sizes[role]]
        self.inputs = ["context", "observed", "noise", *roles]
        seasonal = network.scaler.num_shifts(network.context_length) > 1
        self.carried = ["window", *(["seen"] if network.inputs.mask else []), *(["shift"] if seasonal else [])]
        self.carried += [role for role in ("known", "past") if role in roles]
        self.fixed = [*([] if seasonal else ["shift"]), "scale", "magnitude"]
        self.fixed += ["static"] if "static" in roles else []
        self.stepped = ["noise", *(f"{role}_next" for role in ("known", "calendar") if role in roles)]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """What `carried`, `fixed` and `stepped` name, of the inputs that `inputs` names."""
        given = dict(zip(self.inputs, inputs, strict=True))
        context, observed, noise = (given[name] for name in ("context", "observed", "noise"))
        if self.network.channels == 1:  # the file has no channel axis then
            context, observed, noise = context[..., None], observed[..., None], noise.unsqueeze(3)
        members, patch, length = self.network.members, self.network.patch_length, self.network.context_length
        paths = (noise.shape[1] + members - 1) // members
        steps = (noise.shape[2] + patch - 1) // patch
        # Paths and steps beyond what was asked for, so that members and patches are whole, do as the last ones do.
        noise = noise[:, _up_to(paths * members, noise.shape[1])][:, :, _up_to(steps * patch, noise.shape[2])]
        # Rows go by member, series, path; a path's member is its number modulo the number of members.
        noise = noise.unflatten(1, (paths, members)).movedim(2, 0).flatten(0, 2)

        def rows(part: Tensor) -> Tensor:
            size = (members, part.shape[0], paths, *part.shape[1:])
            return part[None, :, None].expand(size).reshape(members * part.shape[0] * paths, *part.shape[1:])

        def by_step(part: Tensor) -> Tensor:
            return part.unflatten(1, (steps, patch)).transpose(0, 1)

        found = {"window": rows(context), "seen": rows(observed), "noise": by_step(noise)}
        scaling = self.network.scale(context, observed)
        found |= {name: rows(part) for name, part in scaling._asdict().items()}
        if "known" in given:
            known = given["known"][:, _up_to(length + steps * patch, given["known"].shape[1])]
            known = rows(self._scaled("known", known))
            later = torch.cat([known[:, length + patch :], known[:, -patch:]], 1)  # the last step needs no more
            found |= {"known": known[:, : length + patch], "known_next": by_step(later)}
        if "past" in given:
            found["past"] = rows(self._scaled("past", given["past"]))
        if "calendar" in given:
            first = (torch.arange(steps) * patch).clamp(max=given["calendar"].shape[1] - 1)
            found["calendar_next"] = rows(given["calendar"][:, first]).transpose(0, 1)
        if "static" in given:
            found["static"] = rows(self._scaled("static", given["static"][:, None])[:, 0])
        return [found[name] for name in (*self.carried, *self.fixed, *self.stepped)]

    def _scaled(self, role: str, columns: Tensor) -> Tensor:
        return self.scalings[role](columns) if role in self.scalings else columns


class LoopStep(nn.Module):
    """One call of the network, and what it hands to the next.

    Args:
        opening: What the steps begin with.
    """

    def __init__(self, opening: BeforeLoop) -> None:
        super().__init__()
        self.network = opening.network
        head = type(opening.network.head).__name__
        self.title = f"a step of this model, whose head is {head}"
        self.remedy = "train with another `head`, such as quantile"
        self.carried, self.names = opening.carried, [*opening.carried, *opening.fixed, *opening.stepped]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """What `carried` names, one patch later, and the drawn patch `[rows, U, V]`, data units."""
        given = dict(zip(self.names, inputs, strict=True))
        network, window = self.network, given["window"]
        patch = network.patch_length
        seen = given.get("seen", torch.ones_like(window, dtype=torch.bool))
        scaling = Scaling(given["shift"], given["scale"], given["magnitude"])
        covariates = None
        if network.inputs.has_covariates:
            none = window.new_empty(window.shape[0], 1, 0)
            calendar = given["calendar_next"][:, None] if "calendar_next" in given else none
            static = given.get("static", none[:, 0])
            covariates = Covariates(given.get("known", none), given.get("past", none), calendar, static)
        drawn = network.conditional(window, seen, scaling, covariates).draw(given["noise"])
        drawn = drawn.clamp(min=0) if network.non_negative else drawn
        later = {"window": drawn, "seen": torch.ones_like(drawn, dtype=torch.bool)}
        if "known" in given:
            later["known"] = given["known_next"]
        if "past" in given:
            later["past"] = torch.zeros_like(given["past"][:, :1]).expand(-1, patch, -1)
        handed = {name: _moved(given[name], part) for name, part in later.items() if name in given}
        if "shift" in self.carried:
            turn = patch % given["shift"].shape[1]
            handed["shift"] = torch.cat([given["shift"][:, turn:], given["shift"][:, :turn]], 1)
        return [*(handed[name] for name in self.carried), drawn]


class AfterLoop(nn.Module):
    """From the drawn patches to paths and their quantiles.

    Args:
        network: The network.
        factors: Of the recalibration, `[H', K]`; None where there is none.
        levels: Central coverages of the intervals, in percent; None for no quantiles.
    """

    def __init__(self, network: AutoregressiveMLP, factors: Tensor | None, levels: Sequence[float] | None) -> None:
        super().__init__()
        self.network, self.factors, self.levels = network, factors, levels
        self.title = "what becomes of the paths of this model"
        self.remedy = "leave its recalibration out with `conformal` off"

    def forward(self, drawn: Tensor, noise: Tensor) -> list[Tensor]:
        """Return paths `[B, P, H, V]` and, with levels, quantiles `[B, 1 + 2 levels, H, V]`, data units.

        Of a single channel they have no axis `V`.

        Args:
            drawn: `[steps, rows, U, V]`, data units.
            noise: `[B, P, H, ...]`, only for its shape.
        """
        series, count, horizon = noise.shape[:3]
        members = self.network.members
        paths = (count + members - 1) // members
        values = drawn.transpose(0, 1).flatten(1, 2)[:, :horizon]
        found = values.unflatten(0, (members, series, paths)).movedim(0, 2).flatten(1, 2)[:, :count]
        if self.factors is not None:
            found = recalibrate(found, self.factors)
            found = found.clamp(min=0) if self.network.non_negative else found
        results = [found]
        if self.levels is not None:
            results.append(interval_quantiles(found, self.levels, self.network.head.discrete))
        return [part[..., 0] for part in results] if self.network.channels == 1 else results


def _up_to(count: Any, known: Any) -> Tensor:
    """Places from 0 on, the last of those known as often as it takes."""
    return torch.arange(count).clamp(max=known - 1)


def _moved(window: Tensor, later: Tensor) -> Tensor:
    """A window with what came later at its end, and as much less at its beginning."""
    return torch.cat([window, later], 1)[:, later.shape[1] :]
