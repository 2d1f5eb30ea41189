"""FedAvg with an account of what its rounds tell of any one client."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, norm, zeros_like
from fedlab_helpers.core.strategy import ServerState, Strategy
from fedlab_helpers.privacy.adaptive import AdaptiveClip, split_noise
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.randomness import normal
from fedlab_helpers.strategies.registry import registered
from fedlab_helpers.strategies.server_steps import Momentum


@registered(clip=(0.01, 10.0), noise_multiplier=(0.0, 10.0), beta=(0.0, 0.99))
def private(
    clip: float = 1.0,
    noise_multiplier: float = 1.0,
    lr: float = Momentum.lr,
    beta: float = 0.8,
    delta: float = PrivateMean.delta,
    repeatable: bool = False,
) -> Strategy:
    """DP-FedAvg: clipped changes, noise on their sum, and momentum on the server."""
    mean = PrivateMean(clip, noise_multiplier, delta=delta, repeatable=repeatable)
    return Strategy(mean, Momentum(lr, beta))


@dataclass(frozen=True)
class AdaptivePrivate(Strategy):
    """DP-FedAvg whose clip follows the lengths of the clients' changes.

    Andrew, Thakkar, McMahan and Ramaswamy 2021, arXiv:1905.03871, Algorithm 1: the share of changes
    that were within the clip is released with noise, and moves the clip. That costs privacy as
    well: the changes get more noise, so that a round costs what `combine` says (`split_noise`).
    The server looks at each change, so secure sums refuse this.

    Args:
        combine: a `PrivateMean`, whose `clip` is that of the first round.
        share: noise on the number of changes within the clip, as a share of the expected cohort;
            at least the noise multiplier, so that the number takes a quarter of what a round costs
            at most.
        target_quantile, rate: as in `AdaptiveClip`.

    Raises ValueError for another combination, or numbers out of range.
    """

    share: float = field(default=0.05, kw_only=True)
    target_quantile: float = field(default=0.5, kw_only=True)
    rate: float = field(default=0.2, kw_only=True)

    accounted = True  # what is aggregated here beside the mean has noise, too

    def __post_init__(self):
        super().__post_init__()
        require(isinstance(self.combine, PrivateMean), "combine", self.combine, "a PrivateMean")
        self._clip(1)  # its numbers are in range

    def _clip(self, cohort: int) -> AdaptiveClip:
        noise = max(self.share * cohort, self.combine.noise_multiplier)
        return AdaptiveClip(noise, self.target_quantile, self.rate, self.combine.clip)

    def init(self, params: State, clients: int = 1) -> ServerState:
        """Return the state before the first round, with its clip."""
        clip = {"clip": torch.tensor(self.combine.clip, dtype=torch.float64)}
        return replace(super().init(params, clients), memory={"clip": clip})

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return the state after a round, with the next clip; there may be no update."""
        mean, clip = self.combine, float(server.memory["clip"]["clip"])
        require(mean.cohort is not None, "cohort", None, "the number to divide by: this is no run")
        adaptive, within = self._clip(mean.cohort), []
        if mean.noise_multiplier:
            noise = split_noise(mean.noise_multiplier, adaptive.count_noise)
            mean = replace(mean, noise_multiplier=noise)

        def seen() -> Iterator[Update]:
            for update in updates:
                within.append(norm(update.delta) <= clip)
                yield update

        change = replace(mean, clip=clip)(zeros_like(server.params), seen())
        others = {name: kept for name, kept in server.memory.items() if name != "clip"}
        moved = self.step(replace(server, memory=others), change)
        rng = None if mean.secret else torch_rng(mean.seed, "clip", mean.number)
        drawn = float(normal((1,), rng)) if mean.noise_multiplier else 0.0
        following = adaptive.next(clip, adaptive.noisy_share(within, mean.cohort, drawn))
        kept = {"clip": torch.tensor(following, dtype=torch.float64)}
        return replace(moved, round=server.round + 1, memory=moved.memory | {"clip": kept})

    def told(self, server: ServerState) -> dict[str, float]:
        """Return what was spent, and the clip of the next round."""
        return super().told(server) | {"clip": float(server.memory["clip"]["clip"])}


@registered(first=(0.01, 10.0), noise_multiplier=(0.0, 10.0), target_quantile=(0.1, 0.9))
def private_adaptive(
    first: float = 1.0,
    noise_multiplier: float = 1.0,
    target_quantile: float = AdaptivePrivate.target_quantile,
    lr: float = Momentum.lr,
    beta: float = 0.8,
    delta: float = PrivateMean.delta,
    repeatable: bool = False,
) -> AdaptivePrivate:
    """DP-FedAvg with a clip that follows the clients' changes: half of them shall be shorter."""
    mean = PrivateMean(first, noise_multiplier, delta=delta, repeatable=repeatable)
    return AdaptivePrivate(mean, Momentum(lr, beta), target_quantile=target_quantile)
