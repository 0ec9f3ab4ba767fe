"""Baselines: what a forecast has to beat."""

from armlp.evaluation.baselines.naive import drift, naive_error, naive_errors, seasonal_naive
from armlp.evaluation.baselines.naive2 import Naive2
from armlp.evaluation.baselines.ridge import RidgeAR
from armlp.evaluation.baselines.theta import Theta

__all__ = ["Naive2", "RidgeAR", "Theta", "drift", "naive_error", "naive_errors", "seasonal_naive"]
