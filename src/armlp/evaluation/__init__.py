"""Scores, diagnostics and charts of forecasts."""
