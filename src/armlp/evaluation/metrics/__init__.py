"""Metrics of forecasts against the truth, by lead, with masks; they keep nothing but sums."""

from armlp.registry import import_all

import_all(__name__, list(__path__))
