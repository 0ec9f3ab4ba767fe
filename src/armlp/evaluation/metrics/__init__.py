"""Metrics of forecasts by lead, with masks."""

from armlp.registry import import_all

import_all(__name__, list(__path__))
