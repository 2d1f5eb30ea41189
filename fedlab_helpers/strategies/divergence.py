"""How far the updates of a round point apart: what is called client drift."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, flatten


def cosines(deltas: Sequence[State]) -> Tensor:
    """Return the cosine of the angle between the changes of each two clients, (K, K) float64.

    `deltas` are the clients' changes, whole tensors of the same shapes. A change of length 0 has
    cosine 0 with every other.
    """
    vectors = torch.stack([flatten(delta) for delta in deltas])
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return unit @ unit.T


def divergence(deltas: Sequence[State]) -> dict[str, float]:
    """Return how long the clients' changes are, and how little they agree.

    Args:
        deltas: the change of each client, whole tensors of the same shapes; at least two.

    Returns:
        "norm": mean length of a client's change; "cosine": mean of `cosines` over all pairs;
        "survives": the length of the mean change over the mean length: 1 if all agree,
        1/sqrt(K) if K changes of one length are orthogonal, 0 if they cancel.

    Raises:
        ValueError: there are fewer than two changes.
    """
    count = len(deltas)
    require(count > 1, "deltas", count, "at least two to compare")
    vectors, between = torch.stack([flatten(delta) for delta in deltas]), cosines(deltas)
    pairs = (between.sum() - between.diagonal().sum()) / (count * (count - 1))
    mean = float(vectors.norm(dim=1).mean())
    survives = float(vectors.mean(0).norm()) / mean if mean else 0.0
    return {"norm": mean, "cosine": float(pairs), "survives": survives}


def block_of(name: str) -> str:
    """Return the part of a `SentimentLSTM` that a tensor belongs to: its name's first word."""
    return name.split(".")[0]


def gates(delta: State, recurrent: str = "recurrent") -> State:
    """Return an LSTM's tensors cut into its gates, the others as they are.

    PyTorch stacks the rows of the input gate i, forget gate f, candidate g and output gate o; the
    rows of gate f of "recurrent.weight_ih_l0" become "f.weight_ih_l0".
    """
    cut = {}
    for name, tensor in delta.items():
        if block_of(name) != recurrent:
            cut[name] = tensor
            continue
        for gate, rows in zip("ifgo", tensor.chunk(4), strict=True):
            cut[f"{gate}.{name.partition('.')[2]}"] = rows
    return cut
