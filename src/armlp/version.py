"""The version of armlp."""

__version__ = "0.1.0"
