"""What hostile clients do, switched on for chosen clients: to see what a strategy stands."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require_positive
from fedlab_helpers.core.state import State
from fedlab_helpers.strategies.labels import require_classes

ATTACKS = ("sign", "scale", "noise", "nan")
# Attack -> its strength wherever the series shows it; swapped labels need none.
STRENGTHS = {"flip_labels": None, "sign": 3.0, "scale": 10.0, "noise": 0.1, "nan": 1.0}


def choose(n_clients: int, share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Return the hostile clients, ascending: this share of all, rounded.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: got {share!r}, expected a number from 0 to 1")
    return tuple(sorted(rng.permutation(n_clients)[: round(share * n_clients)].tolist()))


def flip_labels(
    clients: Sequence[Examples], hostile: Collection[int], classes: int | None = None
) -> list[Examples]:
    """Return the clients' examples, each label y at the hostile ones made C - 1 - y.

    Args:
        clients: the examples of each client.
        hostile: who flips.
        classes: C; None: as many as the clients' labels show, at least two.

    Raises:
        ValueError: the examples have no classes, or more than `classes`.
    """
    for data in clients:
        require_classes("flip_labels", data.objective)
    most = max((_shown(data.targets) for data in clients), default=2)
    if classes is not None and most > classes:
        raise ValueError(f"classes: got {classes}, but the clients' labels show {most}")
    return [
        _flipped(data, classes or most) if client in hostile else data
        for client, data in enumerate(clients)
    ]


def _shown(targets: torch.Tensor) -> int:
    """Return how many classes targets show, at least two."""
    if targets.is_floating_point():
        return targets.shape[-1]
    return max(2, int(targets.max()) + 1) if targets.numel() else 2


def _flipped(data: Examples, classes: int) -> Examples:
    targets = data.targets
    if targets.is_floating_point():
        flipped = targets.flip(-1)
    else:
        flipped = torch.where(targets < 0, targets, classes - 1 - targets)
    return data.with_targets(flipped)


@dataclass(frozen=True)
class Hostile:
    """A transform that some clients apply to what they send; put it last.

    Args:
        clients: who is hostile.
        attack: "sign": the change is reversed, `strength` times; "scale": it is made `strength`
            times as large; "noise": Gaussian noise takes its place, of standard deviation
            `strength`; "nan": it is not a number.
        strength: above 0.
    """

    covers_extra = True  # whatever it leaves alone, a liar does not mind giving away

    clients: Collection[int]
    attack: Literal["sign", "scale", "noise", "nan"]
    strength: float = 1.0

    def __post_init__(self):
        if self.attack not in ATTACKS:
            raise ValueError(f"attack: got {self.attack!r}, expected one of {list(ATTACKS)}")
        require_positive(strength=self.strength)

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        """Return the update as a hostile client sends it; that of others as it is."""
        if update.client not in self.clients:
            return update, kept
        delta = {
            name: self._lie(tensor, rng) if tensor.is_floating_point() else tensor
            for name, tensor in update.delta.items()
        }
        return replace(update, delta=delta), kept

    def _lie(self, tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        if self.attack == "noise":
            like = {"dtype": tensor.dtype, "device": tensor.device}
            return torch.randn(tensor.shape, generator=rng, **like) * self.strength
        if self.attack == "nan":
            return torch.full_like(tensor, torch.nan)
        return tensor * (-self.strength if self.attack == "sign" else self.strength)


def attacked(
    clients: Sequence[Examples], hostile: Collection[int], attack: str
) -> tuple[Sequence[Examples], tuple[Hostile, ...]]:
    """Return the clients' reviews and the transforms under an attack by these clients."""
    if not hostile:
        return clients, ()
    if attack == "flip_labels":
        return flip_labels(clients, hostile), ()
    return clients, (Hostile(hostile, attack, STRENGTHS[attack]),)
