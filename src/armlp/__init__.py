"""Probabilistic time-series forecasting with the autoregressive MLP, on PyTorch Lightning."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from armlp.loading import quick_imports

__version__ = "0.1.0"

# Threads of torch that wait for each other by spinning make small networks many times slower where other programs want
# the cores too (scripts/LOG.md). Torch reads this when it is first imported; what the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from armlp.data.datamodule import SeriesDataModule
    from armlp.data.panel import Panel
    from armlp.errors import UserError
    from armlp.evaluation.backtest_summary import summarize_backtest
    from armlp.evaluation.metrics import (
        ContinuousRankedProbabilityScore,
        Coverage,
        EnergyScore,
        ErrorRate,
        IntervalScore,
        LogScore,
        MeanAbsoluteError,
        MeanAbsoluteScaledError,
        OverallWeightedAverage,
        PinballLoss,
        PITHistogram,
        RootMeanSquaredError,
        RootMeanSquaredScaledError,
        ScaledCRPS,
        Skill,
        SymmetricMAPE,
        ValidPredictionTime,
        VariogramScore,
        WeightedQuantileLoss,
    )
    from armlp.forecaster import Forecaster
    from armlp.model.heads import (
        CategoricalHead,
        LaplaceHead,
        MixtureHead,
        MultivariateNormalHead,
        NegativeBinomialHead,
        NormalHead,
        PointHead,
        PoissonHead,
        QuantileHead,
        StudentTHead,
        SymbolsHead,
    )
    from armlp.model.mlp import AutoregressiveMLP
    from armlp.model.rollout import rollout
    from armlp.training.module import ForecastModule

# Loaded at first use, so that `import armlp` is quick.
_HOMES = {
    "AutoregressiveMLP": "model.mlp",
    "CategoricalHead": "model.heads",
    "ContinuousRankedProbabilityScore": "evaluation.metrics",
    "Coverage": "evaluation.metrics",
    "EnergyScore": "evaluation.metrics",
    "ErrorRate": "evaluation.metrics",
    "ForecastModule": "training.module",
    "Forecaster": "forecaster",
    "IntervalScore": "evaluation.metrics",
    "LaplaceHead": "model.heads",
    "LogScore": "evaluation.metrics",
    "MeanAbsoluteError": "evaluation.metrics",
    "MeanAbsoluteScaledError": "evaluation.metrics",
    "MixtureHead": "model.heads",
    "MultivariateNormalHead": "model.heads",
    "NegativeBinomialHead": "model.heads",
    "NormalHead": "model.heads",
    "OverallWeightedAverage": "evaluation.metrics",
    "PITHistogram": "evaluation.metrics",
    "Panel": "data.panel",
    "PinballLoss": "evaluation.metrics",
    "PointHead": "model.heads",
    "PoissonHead": "model.heads",
    "QuantileHead": "model.heads",
    "RootMeanSquaredError": "evaluation.metrics",
    "RootMeanSquaredScaledError": "evaluation.metrics",
    "ScaledCRPS": "evaluation.metrics",
    "SeriesDataModule": "data.datamodule",
    "Skill": "evaluation.metrics",
    "StudentTHead": "model.heads",
    "SymbolsHead": "model.heads",
    "SymmetricMAPE": "evaluation.metrics",
    "UserError": "errors",
    "ValidPredictionTime": "evaluation.metrics",
    "VariogramScore": "evaluation.metrics",
    "WeightedQuantileLoss": "evaluation.metrics",
    "rollout": "model.rollout",
    "summarize_backtest": "evaluation.backtest_summary",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'armlp' has no attribute {name!r}")
    with quick_imports():
        found = globals()[name] = getattr(import_module(f"armlp.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
