"""Clipping and Gaussian noise, as transforms that an update passes on the client.

Abadi et al. 2016, arXiv:1607.00133, Algorithm 1, with a client's whole update for a gradient
(McMahan et al. 2018, arXiv:1710.06963). What this amounts to is for an accountant to say.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.messages import Transform, Update
from fedlab_helpers.core.require import is_number, require, require_positive
from fedlab_helpers.core.state import State, norm
from fedlab_helpers.privacy.randomness import normal


@dataclass(frozen=True)
class Clip:
    """Scales a longer change down to this Euclidean norm, over all its tensors together."""

    max_norm: float

    def __post_init__(self):
        require_positive(max_norm=self.max_norm)

    def require_fit(self, clients: Clients) -> None:
        """Raise a ValueError where clients send whole weights, or buffers beside the change."""
        require_changes(self, clients)
        require_nothing_past(self, clients)

    def of(self, change: State) -> State:
        """Return the clipped change; a counter stays as it is, and does not count in the norm."""
        floats = {n: t for n, t in change.items() if t.is_floating_point()}
        scale = min(1.0, self.max_norm / max(norm(floats), 1e-12))
        return change | {n: t * scale for n, t in floats.items()}

    def clipped(self, update: Update) -> Update:
        """Return the update with its change clipped."""
        return replace(update, delta=self.of(update.delta))

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        return self.clipped(update), kept


@dataclass(frozen=True)
class GaussianNoise:
    """Adds noise of this standard deviation to every value of the change.

    It is drawn secretly (`randomness`): noise from the plan's seed, which travels, could be
    subtracted by whoever knows it. So a run with it is not repeatable, as its records say.
    Rows that a client did not touch get noise as well, or they would name its words: updates are
    trained and sent whole.

    Args:
        std: standard deviation, above 0.
        repeatable: draw from the plan's seed after all; protects nobody, but can be shown twice.
    """

    std: float
    repeatable: bool = False
    dense = True

    def __post_init__(self):
        require_positive(std=self.std)

    @property
    def secret(self) -> bool:
        """Whether nobody may be able to draw the same noise again."""
        return not self.repeatable

    def require_fit(self, clients: Clients) -> None:
        """Raise a ValueError where clients send buffers beside the change, or frozen weights."""
        require_nothing_past(self, clients)
        require_none_frozen(clients.model, clients.shared)

    def of(self, change: State, rng: torch.Generator) -> State:
        """Return the change with noise, of this generator where it is `repeatable`; a counter stays
        as it is."""

        def noise(like: Tensor) -> Tensor:
            if self.secret:
                return normal(like.shape, None).to(like)
            return torch.randn(like.shape, generator=rng, dtype=torch.float32).to(like)

        return {
            name: tensor + self.std * noise(tensor) if tensor.is_floating_point() else tensor
            for name, tensor in change.items()
        }

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        if update.touched_rows:
            raise ValueError(f"update: rows of {sorted(update.touched_rows)}, expected it whole")
        return replace(update, delta=self.of(update.delta, rng)), kept


def require_changes(transform: Transform, clients: Clients) -> None:
    """Raise a ValueError where clients send whole weights."""
    fine = clients.strategy.sends == "change"
    require(fine, "transforms", transform, "none that takes whole weights for changes")


def require_nothing_past(transform: Transform, clients: Clients) -> None:
    """Raise a ValueError where the model has running statistics, which leave clients beside the
    change: a transform that protects and knows of the change only would let them go as they are;
    or complex weights, which are no numbers to clip."""
    held = clients.model.state_dict()
    past = sorted(n for n in clients.moving if clients.shared(n) and held[n].is_floating_point())
    require(not past, "transforms", transform, f"a model without {past}, which are not covered")
    odd = [name for name, t in held.items() if t.is_complex() and clients.shared(name)]
    require(not odd, "transforms", transform, f"a model without complex {odd}")


def require_none_frozen(model: nn.Module, shared: Callable[[str], bool]) -> None:
    """Raise a ValueError where weights that are sent are frozen: noise would move them."""
    frozen = [n for n, p in model.named_parameters() if shared(n) and not p.requires_grad]
    out = "none, noise would move them: leave them out by `shared`, or use FrozenWords"
    require(not frozen, "model: frozen weights", frozen, out)


def require_clip_and_noise(clip: float, noise_multiplier: float) -> None:
    """Raise a ValueError unless the norm is above 0 and the noise, in such norms, not below; a norm
    of inf is accepted without noise only."""
    noise = noise_multiplier
    require(is_number(noise, 0), "noise_multiplier", noise, "a finite number not below 0")
    fine = (is_number(clip) and clip > 0) or (clip == math.inf and noise == 0)
    require(fine, "clip", clip, "a finite number above 0, or inf with a noise_multiplier of 0")
