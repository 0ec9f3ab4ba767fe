"""The options of a model and its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.settings import NetworkSettings
from armlp.options import option
from armlp.training.objective import FEEDS, GRADIENTS, LEAD_WEIGHTS, LOSS_UNITS, OBJECTIVES
from armlp.training.optimizers import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class ModelSettings(NetworkSettings):
    """The options of `ForecastModule`. An option left at `None` is chosen from the data."""

    unroll: int | None = option(minimum=1)
    """`K`, network calls chained in one training example; 1 is teacher forcing of single patches."""

    unroll_growth: float = option(0.0, minimum=0, maximum=1)
    """Share of the steps in which the chain grows from 1 to `unroll`; 0 starts with the whole chain."""

    ridge_init: bool = False
    """Start the linear skip as the best linear autoregression, by ridge regression."""

    objective: str = option("head", choices=OBJECTIVES)
    """What is minimised: the loss of the `head` (its negative log-likelihood, or the loss of point and quantile heads),
    or a score of sampled paths: the `crps` of each value or the `energy` score of the whole future."""

    loss_units: str | None = option(choices=LOSS_UNITS)
    """Units of losses other than likelihoods: `relative` to the mean absolute value of the window, `network` units
    (scaled errors) or `data` units."""

    feed: str | None = option(choices=FEEDS)
    """The input after an unrolled patch in training: its `mean`, a `sample`, or the `truth` (teacher forcing under the
    scaling of the origin, as in rollouts); a `sample` if only `unroll` is given."""

    gradient: int | str = "full"
    """How far back the gradient runs in an unrolled chain: `full`, `last` (through one patch only: the pushforward
    trick), or through this many patches."""

    lead_weighting: str = option("even", choices=LEAD_WEIGHTS)
    """Weights of the leads of an unrolled chain: `even`, or more for `near` or `far` ones."""

    optimizer: str | None = option(choices=OPTIMIZERS)
    """`adamw`, `adam`, or `muon`, which reaches a lower error on data without noise."""

    learning_rate: float | None = option(minimum=0)
    """The highest learning rate."""

    weight_decay: float | None = option(minimum=0)
    """Weight decay of the optimizer."""

    schedule: str = option("cosine", choices=SCHEDULES)
    """`cosine` (after a warm-up) or `constant` learning rate."""

    warmup: float = option(0.1, minimum=0, maximum=1)
    """Share of the steps in which the learning rate rises."""

    input_noise: float | None = option(minimum=0)
    """Standard deviation of Gaussian noise on the context in training, network units; it regularizes small data."""

    averaging: float = option(0.0, minimum=0, maximum=1)
    """Share of the steps over which weights are averaged for validation and the checkpoint; 0 turns this off."""

    val_paths: int = option(50, minimum=1)
    """Paths per origin in validation."""

    metrics: Sequence[str] | None = None
    """More metrics of validation and test: names of registered metrics, or class paths of `LeadMetric` classes."""

    conformal: str = option("off", choices=("off", "split", "adaptive"))
    """Recalibration of forecasts. `split` stretches paths around their median, by lead, so that intervals have their
    nominal coverage at the validation origins. `adaptive` starts there and learns from newer values: at every origin of
    a test, and before a forecast of a table that extends past the training. `off` leaves paths as they are."""

    trials: int | None = option(minimum=0)
    """How many other settings `fit` tries on the validation origins before it trains with the best; 0 tries none. If
    left out, it depends on the data, and is 0 if the Trainer has a length."""

    refit: bool | None = None
    """After training, train anew on the validation part too, to the end or for as many steps as were clearly best, and
    store these weights in the best checkpoint; scores and recalibration do not change. If left out, true if validation
    holds a tenth as much as training, or too few windows to choose a step by, unless the Trainer has a length."""

    theta_share: float | None = option(minimum=0, maximum=1)
    """How far forecasts move to those of the Theta method, which uses all of a series: 0 is the network alone, 1 is
    Theta's forecast with the network's spread. Series too short for Theta do not move. If left out, 0.35 for short
    series of numbers without covariates; 0 if many values are 0, if you set a network option, or if the Trainer has a
    length. Likelihoods and exports are the network's alone."""

    min_spread: float | None = option(minimum=0)
    """The least width of intervals, in multiples of the errors that a naive forecast has made in the same series so
    far; 0 leaves widths to the network. If left out, 1.25 for short series with too few validation windows to see
    whether intervals hold, and 0 elsewhere. Likelihoods and exports are the network's alone."""

    effort: int = option(1, minimum=1)
    """Multiple of the usual amount of training: so many members, unless `members` is given, or, on series without
    noise, so many times the steps, unless the Trainer has a length."""

    def __post_init__(self) -> None:
        if self.head == "auto":
            object.__setattr__(self, "head", None)
        super().__post_init__()
        if self.gradient not in GRADIENTS and not (isinstance(self.gradient, int) and self.gradient >= 1):
            raise UserError(
                f"`gradient`: {self.gradient!r} is not known; use {', '.join(GRADIENTS)} or a number of patches."
            )

    def with_default_members(self) -> ModelSettings:
        """Return the settings with one member, unless `members` or `effort` sets their number."""
        return replace(self, members=1) if self.members is None and self.effort == 1 else self

    @property
    def is_settled(self) -> bool:
        """Whether every option that a network needs has a value."""
        settings = self.with_default_members()
        return all(
            getattr(settings, name) is not None for name in CHOSEN_FROM_DATA if name not in _CHOSEN_TRAINING_OPTIONS
        )

    def network(self) -> AutoregressiveMLP:
        """Return a new network with these settings, which must be complete."""
        options = self.flat()
        return AutoregressiveMLP(**{name: value for name, value in options.items() if name not in _TRAINING_OPTIONS})


# Options of the training alone that are chosen from the data.
_CHOSEN_TRAINING_OPTIONS = ("loss_units", "optimizer", "learning_rate", "weight_decay", "theta_share", "min_spread")

# Options that are chosen from the data if they are left out.
CHOSEN_FROM_DATA = (
    "context_length", "patch_length", "unroll", "feed", "hidden_sizes", "residual_blocks", "dropout", "head", "scaler",
    "mask_input", "input_noise", "non_negative", "members", "season_length", "channels", "symbols", "covariate_sizes",
    *_CHOSEN_TRAINING_OPTIONS,
)  # fmt: skip

_TRAINING_OPTIONS = {one.name for one in fields(ModelSettings)} - {one.name for one in fields(NetworkSettings)}
