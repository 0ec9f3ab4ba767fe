"""The options of a model and its training."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from armlp.errors import UserError
from armlp.model.mlp import AutoregressiveMLP
from armlp.model.settings import NetworkSettings
from armlp.options import option
from armlp.training.objective import FEEDS, GRADIENTS, LEAD_WEIGHTS, LOSS_UNITS, OBJECTIVES
from armlp.training.optimizers import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class ModelSettings(NetworkSettings):
    """The options of `ForecastModule`. None is chosen from the data."""

    unroll: int | None = option(minimum=1)
    """`K`, network calls chained in one training example; 1 is teacher forcing of single patches."""

    unroll_growth: float = option(0.0, minimum=0, maximum=1)
    """Share of the steps in which the chain grows from 1 to `unroll`; 0 has it whole from the start."""

    ridge_init: bool = False
    """Start the linear skip as the best linear autoregression, by ridge regression."""

    objective: str = option("head", choices=OBJECTIVES)
    """What is minimised: the loss of the `head` (its negative log-likelihood, or the loss of point and quantile heads),
    or a score of sampled paths: the `crps` of each value or the `energy` score of the whole future."""

    loss_units: str | None = option(choices=LOSS_UNITS)
    """Units of losses that are no likelihoods: `relative` to the mean absolute value of the window, `network` units
    (scaled errors) or `data` units."""

    feed: str | None = option(choices=FEEDS)
    """What an unrolled patch hands to the next in training: its `mean`, a `sample`, or the `truth` instead (teacher
    forcing under the scaling of the origin, as in rollouts); a `sample` where only `unroll` was given."""

    gradient: int | str = "full"
    """How far back the gradient runs in an unrolled chain: `full`, `last` (each patch takes its input as it is: the
    pushforward trick), or chains of this many patches, cut off from each other."""

    lead_weighting: str = option("even", choices=LEAD_WEIGHTS)
    """How the leads of an unrolled chain count: `even`, `near` or `far` ones more."""

    optimizer: str | None = option(choices=OPTIMIZERS)
    """`adamw`, `adam`, or `muon`, which gets closer on data without noise."""

    learning_rate: float | None = option(minimum=0)
    """The highest learning rate."""

    weight_decay: float | None = option(minimum=0)
    """Weight decay of the optimizer."""

    schedule: str = option("cosine", choices=SCHEDULES)
    """`cosine` (after a warm-up) or `constant`."""

    warmup: float = option(0.1, minimum=0, maximum=1)
    """Share of the steps in which the learning rate rises."""

    input_noise: float | None = option(minimum=0)
    """Standard deviation of Gaussian noise on the context in training, network units; it steadies small data."""

    averaging: float = option(0.0, minimum=0, maximum=1)
    """Share of the steps over which weights are averaged for validation and the checkpoint; 0 averages none."""

    val_paths: int = option(50, minimum=1)
    """Paths per origin in validation."""

    conformal: str = option("off", choices=("off", "split", "adaptive"))
    """Recalibrate the paths of forecasts. `split` stretches them around their median, by lead, until the intervals
    cover what they should at the validation origins. `adaptive` starts there and follows the data: at every origin of a
    test, and before a forecast of a table that goes on past the training, it takes in the values known by then. `off`
    leaves paths as the network gives them."""

    trials: int | None = option(minimum=0)
    """How many other settings `fit` tries on the validation origins before it trains with the best; 0 tries none. Where
    left out, as many as the data are worth, and none where the Trainer has a length."""

    refit: bool | None = None
    """After training, train anew on the validation part too, to the end or for as many steps as were clearly best, and
    keep these weights in the best checkpoint; scores and recalibration stay those of before. Where left out, yes where
    validation holds a tenth of what training has, or too few windows to choose a step by, unless the Trainer has a
    length."""

    theta_share: float | None = option(minimum=0, maximum=1)
    """How far forecasts move to those of the Theta method, which uses all of a series: 0 is the network alone, 1 is
    Theta's forecast with the network's spread. Series too short for Theta are forecast by the network alone. Where left
    out, 0.35 for short series of numbers without covariates, unless many of them are 0, the network was chosen by hand,
    or the Trainer has a length. Likelihoods and exports are the network's alone."""

    effort: int = option(1, minimum=1)
    """How many times the usual work training may be: so many members, unless their number is given, or, on series
    without noise, so many times the steps, unless the Trainer has a length."""

    def __post_init__(self) -> None:
        if self.head == "auto":
            object.__setattr__(self, "head", None)
        super().__post_init__()
        if self.gradient not in GRADIENTS and not (isinstance(self.gradient, int) and self.gradient >= 1):
            raise UserError(
                f"`gradient`: {self.gradient!r} is not known; use {', '.join(GRADIENTS)} or a number of patches."
            )

    def with_members(self) -> ModelSettings:
        """Return the settings with one member, unless `members` or `effort` sets their number."""
        return replace(self, members=1) if self.members is None and self.effort == 1 else self

    @property
    def is_settled(self) -> bool:
        """Whether every option that a network needs has a value."""
        return all(getattr(self, name) is not None for name in SETTLED if name not in _OF_TRAINING)

    def network(self) -> AutoregressiveMLP:
        """Return a new network with these settings, which must be complete."""
        options = self.flat()
        return AutoregressiveMLP(**{name: value for name, value in options.items() if name not in _TRAINING_OPTIONS})


# Options that only training needs.
_OF_TRAINING = ("loss_units", "optimizer", "learning_rate", "weight_decay", "theta_share")

# Options that are chosen from the data if they are left out.
SETTLED = (
    "context_length", "patch_length", "unroll", "feed", "hidden_sizes", "residual_blocks", "dropout", "head", "scaler",
    "mask_input", "input_noise", "non_negative", "members", "season_length", "channels", "symbols", "covariate_sizes",
    *_OF_TRAINING,
)  # fmt: skip

_TRAINING_OPTIONS = {one.name for one in fields(ModelSettings)} - {one.name for one in fields(NetworkSettings)}
