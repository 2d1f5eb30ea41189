"""What an attacker sees of clients' updates, the target's among them, under each protection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fedlab_helpers.core.compute import numpy_rng, torch_rng
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import State, flatten, weighted_mean
from fedlab_helpers.privacy.budget import noise_multiplier_for
from fedlab_helpers.privacy.noise import Clip, GaussianNoise
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.secure import FixedPoint, secure_sum
from fedlab_helpers.privacy.secure.rounds import shaped

BITS = 16  # of the ring of secure sums
CLIP, EPSILON, ROUNDS, CLIENTS, COHORT = 2.0, 8.0, 20, 1_000, 300
MODEL = b"the model that all have received"
_PLAYED = 10  # clients up to which the protocol is played; more are summed without masks


@dataclass(frozen=True)
class Protection:
    """One protection.

    Args:
        clients: whose updates are in what is seen, the target's first.
        see: their updates, the largest size of a value, seed -> what is seen: one update or a mean.
    """

    clients: int
    see: Callable[[Sequence[State], float, int], State]

    def of(self, updates: Sequence[State], largest: float, seed: int) -> State:
        """Return what is seen of the first updates."""
        return self.see(updates[: self.clients], largest, seed)


def _alone(updates: Sequence[State], largest: float, seed: int) -> State:
    return updates[0]


def _mean(updates: Sequence[State], largest: float, seed: int) -> State:
    return weighted_mean(updates, [1] * len(updates))


def _secure_sum(updates: Sequence[State], largest: float, seed: int) -> State:
    coding = FixedPoint(BITS, len(updates), largest, 1)
    vectors = encoded(coding, updates, seed)
    if len(updates) > _PLAYED:
        total = np.sum(list(vectors.values()), axis=0, dtype=vectors[0].dtype)
    else:
        total = secure_sum(vectors, len(updates) // 2 + 1, context=MODEL)
    return shaped(coding.decode(total)[0], updates[0])


def _noise_at_the_server(updates: Sequence[State], largest: float, seed: int) -> State:
    mean = PrivateMean(CLIP, multipliers()[0], cohort=COHORT, repeatable=True, seed=seed)
    return mean(updates[0], (Update(client, update) for client, update in enumerate(updates)))


def _noise_at_the_client(updates: Sequence[State], largest: float, seed: int) -> State:
    noise = GaussianNoise(CLIP * multipliers()[1], repeatable=True)
    return noise.of(Clip(CLIP).of(updates[0]), torch_rng(seed, "noise"))


@cache
def multipliers() -> tuple[float, float]:
    """Return the noise for `EPSILON` at a delta of 1e-5, in `CLIP`s: that of the server for all
    rounds of cohorts drawn by coins, with one client more or less; and that of one client for one
    update, whatever else it might have sent ("replace one")."""
    server = noise_multiplier_for(EPSILON, ROUNDS, CLIENTS, COHORT)
    return server, noise_multiplier_for(EPSILON, 1, 1, 1, "fixed")


PROTECTIONS = {
    "nothing": Protection(1, _alone),
    "mean of 10": Protection(10, _mean),
    "mean of 100": Protection(100, _mean),
    "secure sum of 10": Protection(10, _secure_sum),
    "secure sum of 100": Protection(100, _secure_sum),
    "noise at the server": Protection(COHORT, _noise_at_the_server),
    "noise at the client": Protection(1, _noise_at_the_client),
}


def encoded(coding: FixedPoint, updates: Sequence[State], seed: int) -> dict[int, np.ndarray]:
    """Return client -> the elements of the ring that it puts under masks."""
    return {
        client: coding.encode(flatten(update).numpy(), 1, numpy_rng(seed, "coding", client))
        for client, update in enumerate(updates)
    }


SUMS = {  # of a server that cheats: bits of the ring, and whether masks hang on the model
    "secure sum of 10": (BITS, True),
    "secure sum of 10, model not bound": (BITS, False),
    "secure sum of 10, model not bound, 32 bits": (32, False),
}


def cheated(updates: Sequence[State], largest: float, bits: int, bound: bool, seed: int) -> State:
    """Return what a server gets as their sum, element by element as it stands and in the direction
    of a gradient, that has sent the model to the first client and another to the rest. Where masks
    are bound to the model it is drawn by the system, anew each time."""
    vectors = encoded(FixedPoint(bits, len(updates), largest, 1), updates, seed)
    contexts = {client: b"another model" if client and bound else MODEL for client in vectors}
    total = secure_sum(vectors, len(vectors) // 2 + 1, context=contexts)[:-1]
    return shaped(-total.view(f"i{bits // 8}").astype(float), updates[0])
