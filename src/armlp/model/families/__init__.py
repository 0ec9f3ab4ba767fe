"""Families of distributions with their heads, which register themselves in `HEADS`; one file per family."""

from __future__ import annotations

from armlp.model.families.base import HEADS, Head, Predictive
from armlp.registry import import_all

__all__ = ["HEADS", "Head", "Predictive"]

import_all(__name__, __path__)
