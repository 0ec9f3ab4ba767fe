"""Paths and truth in, numbers and pictures out; no Trainer."""
