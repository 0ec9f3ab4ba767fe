"""Scores, diagnostics and charts of forecasts, beside those of baselines; no Trainer."""
