"""Settle a model: choose the options that were left out from the data, and build the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from armlp.data.datamodule import SeriesDataModule
from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.training.checks import check_options_agree, check_same_data
from armlp.training.loop.steps import ModuleTrainedBySteps
from armlp.training.recipe import Choice, recipe
from armlp.training.settings import CHOSEN_FROM_DATA, ModelSettings

Module = TypeVar("Module", bound="SettledModule")

# A user who sets one of these options chooses the network.
_NETWORK_OPTIONS = ("context_length", "patch_length", "unroll", "hidden_sizes", "residual_blocks", "head", "scaler")


@dataclass(frozen=True)
class Settled:
    """Settings, and for settled ones the reason of each choice.

    Before settling, all fields except `settings` are empty.
    """

    settings: ModelSettings
    recommended: dict[str, Choice] = field(default_factory=dict)  # from the data, for all options and `max_steps`
    applied: dict[str, Choice] = field(default_factory=dict)  # for options that were left out; `fit` prints them
    from_trials: dict[str, Choice] = field(default_factory=dict)  # of the best trial

    @property
    def max_steps(self) -> Choice:
        """The recommended number of optimizer steps."""
        return self.recommended["max_steps"]


def settle_model(
    settings: ModelSettings, data: SeriesDataModule, from_trials: Mapping[str, Choice] | None = None
) -> Settled:
    """Return settings in which every option that was left out is chosen from the data.

    `from_trials` are choices of the best trial, perhaps also of `max_steps`, that replace those of the recipe.
    """
    from_trials = dict(from_trials or {})
    trial_values = {name: one.value for name, one in from_trials.items() if hasattr(settings, name)}
    settings = replace(settings.with_default_members(), **trial_values)
    sizes = settings.covariate_sizes
    # A model without layers cannot use the calendar; the inputs of a trained network are fixed.
    calendar = settings.hidden_sizes != [] and (sizes is None or "calendar" in sizes)
    recommended = (
        recipe(data, settings.patch_length, settings.effort, calendar or not data.chooses_cycles) | from_trials
    )
    missing = [name for name in CHOSEN_FROM_DATA if getattr(settings, name) is None]
    applied: dict[str, Choice] = {}
    if missing:
        recommended |= _implied(settings, from_trials, recommended["head"].value)
        applied = {name: recommended[name] for name in missing}
        settings = replace(settings, **{name: choice.value for name, choice in applied.items()})
        applied |= {name: choice for name, choice in from_trials.items() if hasattr(settings, name)}
        applied["calendar_inputs"] = recommended["calendar_inputs"]
    check_same_data(settings, recommended, data)
    return Settled(settings, recommended, applied, from_trials)


def _implied(settings: ModelSettings, from_trials: Mapping[str, Choice], head: str) -> dict[str, Choice]:
    """Return choices that follow from options of the user, not of trials; `head` is the recipe's."""
    choices, samples = {}, settings.objective != "head"
    stretched = settings.conformal != "off"
    if (head == "point" and (samples or stretched)) or (
        head == "negative_binomial" and (stretched or settings.theta_share)
    ):
        what = "conformal" if stretched else "objective" if samples else "theta_share"
        choices["head"] = Choice("quantile", f"{what} needs a continuous distribution")
    if settings.hidden_sizes == []:
        choices["residual_blocks"] = Choice(0, "no layer before them")
        choices["optimizer"] = Choice("adamw", "")  # muon trains layers
    if any(getattr(settings, name) is not None for name in _NETWORK_OPTIONS if name not in from_trials):
        choices["theta_share"] = Choice(0.0, "")  # show the forecasts of the chosen network
    if samples and settings.unroll is None:
        choices["unroll"] = Choice(1, "the objective samples its own patches")
    if samples or settings.unroll is not None:
        choices["feed"] = Choice("sample", "its own output")
    return choices


class SettledModule(ModuleTrainedBySteps):
    """A module whose options are settled on its data; the network exists as soon as they are complete."""

    settings_class = ModelSettings
    settled: Settled
    network: AutoregressiveMLP

    @classmethod
    def of(cls: type[Module], settled: Settled) -> Module:
        """Return a module of settled settings."""
        module = cls(**settled.settings.flat())
        module.settled = settled
        return module

    def apply_settled(self, settled: Settled) -> None:
        """Apply settings, and build the network if they are complete and there is none yet."""
        self.settled = settled
        if settled.settings.is_settled and not hasattr(self, "network"):
            self.settled = replace(settled, settings=settled.settings.with_default_members())
            self.network = self.settings.network()
            check_options_agree(self.settings, self.network)
        self.hparams.update(self.settings.flat())

    def settle_on(self, data: SeriesDataModule) -> None:
        """Choose what was left out."""
        settled = settle_model(self.settings, data, self.settled.from_trials)
        self.apply_settled(replace(settled, applied=settled.applied or self.reasons))

    @property
    def settings(self) -> ModelSettings:
        """The options; once the network exists, with all values that were chosen."""
        return self.settled.settings

    @property
    def reasons(self) -> dict[str, Choice]:
        """Why the options that were left out have their values."""
        return self.settled.applied

    @property
    def has_distribution(self) -> bool:
        """Whether forecasts spread, so that intervals mean something; a point head's do not."""
        return self.network.head.noise > 0

    @property
    def datamodule(self) -> SeriesDataModule:
        """The data of the trainer."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if not isinstance(datamodule, SeriesDataModule):
            raise UserError(
                "ForecastModule needs its data as a SeriesDataModule: trainer.fit(module, datamodule). Only a module "
                "with all options given trains on other loaders, without validation."
            )
        return datamodule

    @property
    def has_other_loaders(self) -> bool:
        """Whether the training takes its batches from other loaders than those of a `SeriesDataModule`."""
        return hasattr(self, "network") and getattr(self.trainer, "datamodule", None) is None

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Restore the weights of a checkpoint, and its scores and factors from validation."""
        self.load_state_dict(checkpoint["state_dict"])
        self.on_load_checkpoint(checkpoint)
