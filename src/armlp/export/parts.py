"""The parts of a rollout that become graphs. They call the network's code, so that a file agrees with `rollout`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from armlp.data.covariates import ColumnScaling, Covariates
from armlp.evaluation.conformal import recalibrate
from armlp.evaluation.quantiles import interval_quantiles
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.scaling import SCALERS, Scaling


class Example(NamedTuple):
    """An input to trace a part with, and the names of its axes that may have another size."""

    values: Tensor
    free_axes: Mapping[int, str]


class BeforeLoop(nn.Module):
    """The part before the loop: the inputs of the first step, with a row for each member, series and path.

    Args:
        scalings: Scaling of the covariates by role; a missing role is not scaled.

    Attributes:
        inputs: Names of the inputs of a forecast.
        carried: Names of the values that a step passes to the next.
        fixed: Names of the values that all steps share.
        stepped: Names of the values of which each step gets one slice along the first axis.
    """

    def __init__(self, network: AutoregressiveMLP, scalings: Mapping[str, ColumnScaling]) -> None:
        super().__init__()
        self.network, self.scalings = network, scalings
        self.is_dependent = network.dependence is not None and not network.dependence.is_independent
        self.title = "how this model scales its context or covariates"
        self.remedy = f"train with another `scaler` than {SCALERS.name_of(type(network.scaler))}"
        roles = [role for role in Covariates._fields if network.inputs.sizes[role]]
        self.inputs = ["context", "observed", "noise", *roles]
        seasonal = network.scaler.num_shifts(network.context_length) > 1
        carried = {"window": True, "observed": network.inputs.mask_input, "shift": seasonal}
        carried |= {role: role in roles for role in ("known", "past")}
        self.carried = [name for name, changes in carried.items() if changes]
        self.fixed = [*([] if seasonal else ["shift"]), "scale", "magnitude"]
        self.fixed += ["static"] if "static" in roles else []
        self.stepped = ["noise", *(f"{role}_next" for role in ("known", "calendar") if role in roles)]

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        """Return the values of `carried`, `fixed` and `stepped`, in this order."""
        context, observed, noise, *columns = tensors
        covariates = dict(zip(self.inputs[3:], columns, strict=True))
        if self.network.channels == 1:  # the file has no channel axis then
            context, observed, noise = context[..., None], observed[..., None], noise.unsqueeze(3)
        members, patch, length = self.network.members, self.network.patch_length, self.network.context_length
        paths = (noise.shape[1] + members - 1) // members
        steps = (noise.shape[2] + patch - 1) // patch
        # Repeat the last path and step until all members have equally many paths and all patches are whole.
        noise = noise[:, _indices_up_to(paths * members, noise.shape[1])]
        noise = noise[:, :, _indices_up_to(steps * patch, noise.shape[2])]
        noise = noise.unflatten(1, (paths, members))
        if self.is_dependent:
            assert self.network.dependence is not None
            noise = self.network.dependence.of_patches(noise.unflatten(3, (steps, patch))).flatten(3, 4)
        # Rows are ordered by member, series, path; path `p` belongs to member `p % members`.
        noise = noise.movedim(2, 0).flatten(0, 2)

        def rows(part: Tensor) -> Tensor:
            size = (members, part.shape[0], paths, *part.shape[1:])
            return part[None, :, None].expand(size).reshape(members * part.shape[0] * paths, *part.shape[1:])

        def by_step(part: Tensor) -> Tensor:
            return part.unflatten(1, (steps, patch)).transpose(0, 1)

        found = {"window": rows(context), "observed": rows(observed), "noise": by_step(noise)}
        scaling = self.network.measure_scaling(context, observed)
        found |= {name: rows(part) for name, part in scaling._asdict().items()}
        if (known := covariates.get("known")) is not None:
            known = known[:, _indices_up_to(length + steps * patch, known.shape[1])]
            known = rows(self._scaled("known", known))
            later = torch.cat([known[:, length + patch :], known[:, -patch:]], 1)  # no step follows the last
            found |= {"known": known[:, : length + patch], "known_next": by_step(later)}
        if (past := covariates.get("past")) is not None:
            found["past"] = rows(self._scaled("past", past))
        if (calendar := covariates.get("calendar")) is not None:
            first = (torch.arange(steps) * patch).clamp(max=calendar.shape[1] - 1)
            found["calendar_next"] = rows(calendar[:, first]).transpose(0, 1)
        if (static := covariates.get("static")) is not None:
            found["static"] = rows(self._scaled("static", static[:, None])[:, 0])
        return [found[name] for name in (*self.carried, *self.fixed, *self.stepped)]

    def examples(self) -> dict[str, Example]:
        """Return inputs to trace with, by name."""
        network, length = self.network, self.network.context_length
        # Sizes above 1 that all differ, so that tracing takes none for another or for a constant.
        batch, paths, steps = 3, 5, 2 * network.patch_length + 5
        channels = (network.channels,) if network.channels > 1 else ()
        width = {role: len(sizes) for role, sizes in network.inputs.sizes.items()}
        width |= {role: len(scaling.mean) for role, scaling in self.scalings.items()}
        shapes = {
            "context": ((batch, length, *channels), ("batch",)),
            "observed": ((batch, length, *channels), ("batch",)),
            "noise": ((batch, paths, steps, *channels, max(1, network.head.noise)), ("batch", "paths", "horizon")),
            "known": ((batch, length + steps + 1, width["known"]), ("batch", "times")),
            "past": ((batch, length, width["past"]), ("batch",)),
            "calendar": ((batch, steps + 2, width["calendar"]), ("batch", "leads")),
            "static": ((batch, width["static"]), ("batch",)),
        }
        found = {}
        for name in self.inputs:
            shape, axes = shapes[name]
            value = torch.full(shape, 0.5)
            found[name] = Example(value.bool() if name == "observed" else value, dict(enumerate(axes)))
        return found

    def _scaled(self, role: str, columns: Tensor) -> Tensor:
        return self.scalings[role](columns) if role in self.scalings else columns


class LoopStep(nn.Module):
    """One step of the loop: a call of the network, and the inputs of the next step."""

    def __init__(self, before_loop: BeforeLoop) -> None:
        super().__init__()
        self.network = before_loop.network
        head = type(before_loop.network.head).__name__
        self.title = f"a step of this model, whose head is {head}"
        self.remedy = "train with another `head`, such as quantile"
        self.carried = before_loop.carried
        self.names = [*before_loop.carried, *before_loop.fixed, *before_loop.stepped]

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        """Return the values of `carried` for the next step, and the drawn patch `[rows, U, V]`, data units."""
        now = dict(zip(self.names, tensors, strict=True))
        network, window = self.network, now["window"]
        patch = network.patch_length
        observed = now.get("observed", torch.ones_like(window, dtype=torch.bool))
        scaling = Scaling(now["shift"], now["scale"], now["magnitude"])
        covariates = None
        if network.inputs.has_covariates:
            none = window.new_empty(window.shape[0], 1, 0)
            calendar = now["calendar_next"][:, None] if "calendar_next" in now else none
            static = now.get("static", none[:, 0])
            covariates = Covariates(now.get("known", none), now.get("past", none), calendar, static)
        drawn = network.predict_patch(window, observed, scaling, covariates).draw(now["noise"])
        drawn = drawn.clamp(min=0) if network.non_negative else drawn
        later = {"window": drawn, "observed": torch.ones_like(drawn, dtype=torch.bool)}
        if "known" in now:
            later["known"] = now["known_next"]
        if "past" in now:
            later["past"] = torch.zeros_like(now["past"][:, :1]).expand(-1, patch, -1)
        passed = {name: _shifted(now[name], part) for name, part in later.items() if name in now}
        if "shift" in self.carried:
            turn = patch % now["shift"].shape[1]
            passed["shift"] = torch.cat([now["shift"][:, turn:], now["shift"][:, :turn]], 1)
        return [*(passed[name] for name in self.carried), drawn]


class AfterLoop(nn.Module):
    """The part after the loop: paths and their quantiles.

    Args:
        factors: Factors of the recalibration, `[H', K]`; None without recalibration.
        levels: Central coverages of the intervals, in percent; None for no quantiles.
    """

    def __init__(self, network: AutoregressiveMLP, factors: Tensor | None, levels: Sequence[float] | None) -> None:
        super().__init__()
        self.network, self.factors, self.levels = network, factors, levels
        self.outputs = ["paths"] if levels is None else ["paths", "quantiles"]
        self.title = "what becomes of the paths of this model"
        self.remedy = "leave its recalibration out with `conformal` off"

    def forward(self, drawn: Tensor, noise: Tensor) -> list[Tensor]:
        """Return paths `[B, P, H, V]` and, with levels, quantiles `[B, 1 + 2 levels, H, V]`, data units.

        A single channel has no axis `V`.

        Args:
            drawn: `[steps, rows, U, V]`, data units.
            noise: `[B, P, H, ...]`, used for its shape alone.
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


def _indices_up_to(count: Any, available: Any) -> Tensor:
    """Return the indices 0, 1, ..., `count - 1`, none above `available - 1`."""
    return torch.arange(count).clamp(max=available - 1)


def _shifted(window: Tensor, later: Tensor) -> Tensor:
    """Append later values to a window and drop as many from its beginning."""
    return torch.cat([window, later], 1)[:, later.shape[1] :]
