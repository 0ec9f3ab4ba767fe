"""The version of armlp, and what it is in one sentence."""

__version__ = "0.1.0"
SUMMARY = "Probabilistic time-series forecasting with the autoregressive MLP, on PyTorch Lightning."
