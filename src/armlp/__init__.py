"""Probabilistic time-series forecasting with the autoregressive MLP, on PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from armlp.version import __version__

if TYPE_CHECKING:
    from armlp.data.datamodule import SeriesDataModule
    from armlp.data.panel import Panel
    from armlp.errors import UserError
    from armlp.evaluation.backtest_summary import summarize_backtest
    from armlp.evaluation.metrics.calibration import Coverage, IntervalScore, LogScore, PITHistogram
    from armlp.evaluation.metrics.point import (
        ErrorRate,
        MeanAbsoluteError,
        MeanAbsoluteScaledError,
        RootMeanSquaredError,
        RootMeanSquaredScaledError,
        SymmetricMAPE,
        ValidPredictionTime,
    )
    from armlp.evaluation.metrics.probabilistic import (
        ContinuousRankedProbabilityScore,
        EnergyScore,
        PinballLoss,
        ScaledCRPS,
        VariogramScore,
        WeightedQuantileLoss,
    )
    from armlp.evaluation.metrics.relative import OverallWeightedAverage, Skill
    from armlp.forecaster import Forecaster
    from armlp.model.families.categorical import CategoricalHead
    from armlp.model.families.counts import NegativeBinomialHead, PoissonHead
    from armlp.model.families.location_scale import LaplaceHead, MultivariateNormalHead, NormalHead, StudentTHead
    from armlp.model.families.mixture import MixtureHead
    from armlp.model.families.point import PointHead
    from armlp.model.families.quantile import QuantileHead
    from armlp.model.families.symbols import SymbolsHead
    from armlp.model.mlp import AutoregressiveMLP
    from armlp.model.rollout import rollout
    from armlp.training.module import ForecastModule

# Loaded at first use, so that `import armlp` is quick.
_HOMES = {
    "AutoregressiveMLP": "model.mlp",
    "CategoricalHead": "model.families.categorical",
    "ContinuousRankedProbabilityScore": "evaluation.metrics.probabilistic",
    "Coverage": "evaluation.metrics.calibration",
    "EnergyScore": "evaluation.metrics.probabilistic",
    "ErrorRate": "evaluation.metrics.point",
    "ForecastModule": "training.module",
    "Forecaster": "forecaster",
    "IntervalScore": "evaluation.metrics.calibration",
    "LaplaceHead": "model.families.location_scale",
    "LogScore": "evaluation.metrics.calibration",
    "MeanAbsoluteError": "evaluation.metrics.point",
    "MeanAbsoluteScaledError": "evaluation.metrics.point",
    "MixtureHead": "model.families.mixture",
    "MultivariateNormalHead": "model.families.location_scale",
    "NegativeBinomialHead": "model.families.counts",
    "NormalHead": "model.families.location_scale",
    "OverallWeightedAverage": "evaluation.metrics.relative",
    "PITHistogram": "evaluation.metrics.calibration",
    "Panel": "data.panel",
    "PinballLoss": "evaluation.metrics.probabilistic",
    "PointHead": "model.families.point",
    "PoissonHead": "model.families.counts",
    "QuantileHead": "model.families.quantile",
    "RootMeanSquaredError": "evaluation.metrics.point",
    "RootMeanSquaredScaledError": "evaluation.metrics.point",
    "ScaledCRPS": "evaluation.metrics.probabilistic",
    "SeriesDataModule": "data.datamodule",
    "Skill": "evaluation.metrics.relative",
    "StudentTHead": "model.families.location_scale",
    "SymbolsHead": "model.families.symbols",
    "SymmetricMAPE": "evaluation.metrics.point",
    "UserError": "errors",
    "ValidPredictionTime": "evaluation.metrics.point",
    "VariogramScore": "evaluation.metrics.probabilistic",
    "WeightedQuantileLoss": "evaluation.metrics.probabilistic",
    "rollout": "model.rollout",
    "summarize_backtest": "evaluation.backtest_summary",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'armlp' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"armlp.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
