"""The same training on many machines, with Flower (flwr) for engine."""

from fedlab_helpers.network.job import CODECS, Job
from fedlab_helpers.network.node import Node

__all__ = ["CODECS", "Job", "Node"]
