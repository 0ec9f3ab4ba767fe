"""Probabilistic time-series forecasting with the autoregressive MLP, on PyTorch Lightning."""

__version__ = "0.1.0"
