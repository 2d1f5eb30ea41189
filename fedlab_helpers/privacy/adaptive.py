"""A clipping norm that follows the clients' updates, at a cost that the accountant knows.

Andrew, Thakkar, McMahan and Ramaswamy 2021, arXiv:1905.03871: beside its clipped update each client
sends one bit, whether the update was within the norm; the sum of the bits gets noise as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedlab_helpers.core.require import is_number, require, require_count, require_positive


@dataclass(frozen=True)
class AdaptiveClip:
    """Moves the clipping norm towards a quantile of the norms of updates, Algorithm 1 of the paper.

    Args:
        count_noise: standard deviation of the noise on the sum of the bits, above 0. The paper
            takes a twentieth of the cohort. `split_noise` says what the updates need beside it.
        target_quantile: share of the updates that shall be within the norm, above 0 and below 1.
        rate: by how much the norm's logarithm moves where the share is off by 1, above 0.
        first: the norm of the first round, above 0.

    Raises ValueError for numbers out of range.
    """

    count_noise: float
    target_quantile: float = 0.5
    rate: float = 0.2
    first: float = 1.0

    def __post_init__(self):
        require_positive(count_noise=self.count_noise, rate=self.rate, first=self.first)
        quantile = self.target_quantile
        fine = is_number(quantile) and 0 < quantile < 1
        require(fine, "target_quantile", quantile, "a number above 0 and below 1")

    def noisy_share(self, within: Sequence[bool], cohort: int, normal: float) -> float:
        """Return the share of updates that were within the norm, with noise; it can leave [0, 1].

        Bits count as +1/2 and -1/2, so that a client moves their sum by 1/2, not 1.

        Args:
            within: a bit for each client that took part; may be empty.
            cohort: the number of clients that was expected beforehand, at least 1.
            normal: a standard normal number that nobody may be able to draw again.
        """
        require_count(cohort=cohort)
        bits = sum(0.5 if bit else -0.5 for bit in within)
        return 0.5 + (bits + normal * self.count_noise) / cohort

    def next(self, clip: float, noisy_share: float) -> float:
        """Return the norm of the next round, where with norm `clip`, above 0, this share of the
        updates was within it. Raises ValueError for a norm out of range."""
        require_positive(clip=clip)
        return clip * math.exp(-self.rate * (noisy_share - self.target_quantile))


def split_noise(noise_multiplier: float, count_noise: float) -> float:
    """Return the noise multiplier of the updates with which a round, bits and all, costs as much
    privacy as updates alone with `noise_multiplier`: Theorem 1 of the paper.

    Args:
        noise_multiplier: of the whole round, as the accountant sees it, above 0.
        count_noise: standard deviation of the noise on the sum of the bits; more than half of
            `noise_multiplier`, for with less the bits alone cost more than the round may.

    Raises ValueError for numbers out of range.
    """
    require_positive(noise_multiplier=noise_multiplier, count_noise=count_noise)
    enough = f"more than {noise_multiplier / 2}, half of the noise multiplier"
    require(2 * count_noise > noise_multiplier, "count_noise", count_noise, enough)
    return (noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5
