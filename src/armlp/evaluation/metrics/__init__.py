"""Metrics of forecasts against the truth, by lead, with masks; sums are all that they keep."""

from armlp.evaluation.metrics.calibration import Coverage, IntervalScore, LogScore, PITHistogram
from armlp.evaluation.metrics.chaos import ValidPredictionTime
from armlp.evaluation.metrics.errors import (
    ErrorRate,
    MeanAbsoluteError,
    MeanAbsoluteScaledError,
    RootMeanSquaredError,
    RootMeanSquaredScaledError,
    SymmetricMAPE,
)
from armlp.evaluation.metrics.forecast import Paths
from armlp.evaluation.metrics.metric import LeadMetric
from armlp.evaluation.metrics.quantile_losses import PinballLoss, WeightedQuantileLoss
from armlp.evaluation.metrics.relative import OverallWeightedAverage, Skill
from armlp.evaluation.metrics.samples import (
    ContinuousRankedProbabilityScore,
    EnergyScore,
    ScaledCRPS,
    VariogramScore,
)
from armlp.evaluation.metrics.scores import crps, energy_score, variogram_score

__all__ = [
    "ContinuousRankedProbabilityScore",
    "Coverage",
    "EnergyScore",
    "ErrorRate",
    "IntervalScore",
    "LeadMetric",
    "LogScore",
    "MeanAbsoluteError",
    "MeanAbsoluteScaledError",
    "OverallWeightedAverage",
    "PITHistogram",
    "Paths",
    "PinballLoss",
    "RootMeanSquaredError",
    "RootMeanSquaredScaledError",
    "ScaledCRPS",
    "Skill",
    "SymmetricMAPE",
    "ValidPredictionTime",
    "VariogramScore",
    "WeightedQuantileLoss",
    "crps",
    "energy_score",
    "variogram_score",
]
