"""What hostile clients do, switched on for chosen clients: to see what a strategy stands."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require, require_positive
from fedlab_helpers.core.state import State
from fedlab_helpers.privacy.noise import require_changes
from fedlab_helpers.strategies.labels import require_classes

# Attack -> its strength wherever the series shows it; swapped labels need none.
STRENGTHS = {"flip_labels": None, "sign": 3.0, "scale": 10.0, "noise": 0.1, "nan": 1.0}
_LIES = {
    "sign": lambda tensor, strength, rng: tensor * -strength,
    "scale": lambda tensor, strength, rng: tensor * strength,
    "noise": lambda tensor, strength, rng: (
        strength
        * torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype, device=tensor.device)
    ),
    "nan": lambda tensor, strength, rng: torch.full_like(tensor, torch.nan),
}


def choose(n_clients: int, share: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Return the hostile clients, ascending: this share of all, rounded.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    require(0 <= share <= 1, "share", share, "a number from 0 to 1")
    return tuple(sorted(rng.permutation(n_clients)[: round(share * n_clients)].tolist()))


def flip_labels(clients: Sequence[Examples], hostile: Collection[int]) -> list[Examples]:
    """Return the clients' examples, each label y at the hostile ones made C - 1 - y.

    C is as many classes as all the clients' labels show, at least two; probabilities, (N, C), are
    turned round. Raises ValueError: the examples have no classes.
    """
    for data in clients:
        require_classes("flip_labels", data.objective)
    last = max([1, *(_last_class(data.targets) for data in clients)])

    def flipped(targets: torch.Tensor) -> torch.Tensor:
        if targets.is_floating_point():
            return targets.flip(-1)
        return torch.where(targets < 0, targets, last - targets)

    return [
        data.with_targets(flipped(data.targets)) if client in hostile else data
        for client, data in enumerate(clients)
    ]


def _last_class(targets: torch.Tensor) -> int:
    if targets.is_floating_point():
        return targets.shape[-1] - 1
    return int(targets.max()) if targets.numel() else 0


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
    attack: str
    strength: float = 1.0

    def __post_init__(self):
        require(self.attack in _LIES, "attack", self.attack, f"one of {list(_LIES)}")
        require_positive(strength=self.strength)

    def require_fit(self, clients: Clients) -> None:
        """Raise a ValueError where clients send whole weights, which this takes for a change."""
        if self.attack != "nan":
            require_changes(self, clients)

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        if update.client not in self.clients:
            return update, kept
        lie = _LIES[self.attack]
        delta = {
            name: lie(tensor, self.strength, rng) if tensor.is_floating_point() else tensor
            for name, tensor in update.delta.items()
        }
        return replace(update, delta=delta), kept


def attacked(
    clients: Sequence[Examples], hostile: Collection[int], attack: str
) -> tuple[Sequence[Examples], tuple[Hostile, ...]]:
    """Return the clients' examples and the transforms under an attack by these clients."""
    if not hostile:
        return clients, ()
    if attack == "flip_labels":
        return flip_labels(clients, hostile), ()
    return clients, (Hostile(hostile, attack, STRENGTHS[attack]),)
