"""Which words an update holds: the rows of the embedding that it touches."""

import torch
from torch import Tensor


def touched(table: Tensor) -> Tensor:
    """Return the rows of an embedding's gradient or change, (V, E), that are not zero: the ids of
    the words that were trained on, (n,) int64."""
    return table.flatten(1).any(1).nonzero()[:, 0]


def clock(table: Tensor) -> Tensor:
    """Return the touched rows, (n,) int64, the smallest first.

    In an untrained network a gradient fades at each step back in time, so this is the order in
    which words were read (each where it stood last).
    """
    words = touched(table)
    return words[torch.linalg.vector_norm(table[words], dim=1, dtype=torch.float64).argsort()]
