"""Baselines: simple forecasters to compare a model with."""

from armlp.registry import import_all

import_all(__name__, list(__path__))
