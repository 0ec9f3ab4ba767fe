"""The autoregressive MLP in pure torch; no Lightning, no tables."""
