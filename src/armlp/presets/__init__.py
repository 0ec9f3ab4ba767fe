"""Configurations by name: only what differs from the defaults."""
