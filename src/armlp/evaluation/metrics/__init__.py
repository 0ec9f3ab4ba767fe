"""Metrics of forecasts against the truth, by lead, with masks; sums are all that they keep."""

from armlp.evaluation.metrics.base import LeadMetric, Paths
from armlp.evaluation.metrics.calibration import Coverage, IntervalScore, LogScore, PITHistogram
from armlp.evaluation.metrics.functional import crps, energy_score, variogram_score
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
