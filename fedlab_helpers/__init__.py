"""Helpers for a course on federated learning of recurrent networks."""

__version__ = "0.1.0"
