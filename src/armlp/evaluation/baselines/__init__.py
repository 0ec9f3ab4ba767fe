"""Baselines: simple forecasters that a model has to beat."""

from armlp.registry import import_all

import_all(__name__, list(__path__))
