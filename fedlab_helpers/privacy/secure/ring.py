"""Fixed point: changes as integers modulo 2^8, 2^16 or 2^32, whose sum gives a weighted mean.

Masks are uniform over a ring, so what they hide must be elements of it (Bonawitz et al. 2017,
doi:10.1145/3133956.3133982). A value is clipped to ±clip, multiplied by the client's weight and
rounded to an integer. With c clients none may be larger than (2^(bits - 1) - 1) / c, or the sum
would wrap round.
"""

from dataclasses import dataclass

import numpy as np

from fedlab_helpers.core.require import is_number, require, require_count, require_positive
from fedlab_helpers.privacy.secure.masks import ELEMENTS

_RINGS = {8 * dtype.itemsize: dtype for dtype in ELEMENTS}
_TOGETHER = 40  # levels of a cohort's weights: half of it has none with a chance of e^-20 at most


@dataclass(frozen=True)
class FixedPoint:
    """How values become elements of a ring, and what a sum of elements means.

    Args:
        bits: of the ring: 8, 16 or 32.
        clients: how many are summed at most; the more, the fewer levels each has.
        clip: values are clipped to ±clip, in the unit of the values.
        most_examples: a public bound on the examples of one client.

    Raises:
        ValueError: one is out of range, or the ring is too small for so many clients.
    """

    bits: int
    clients: int
    clip: float
    most_examples: float

    def __post_init__(self):
        require(self.bits in _RINGS, "bits", self.bits, f"one of {sorted(_RINGS)}")
        require_count(clients=self.clients)
        require_positive(clip=self.clip, most_examples=self.most_examples)
        most = 2 ** (self.bits - 1) - 1
        require(
            self.clients <= most, "clients", self.clients, f"at most {most} with bits={self.bits}"
        )

    @property
    def element(self) -> np.dtype:
        """The dtype of the ring's elements."""
        return _RINGS[self.bits]

    @property
    def largest(self) -> int:
        """The largest integer of one client: that many levels a value has above 0."""
        return (2 ** (self.bits - 1) - 1) // self.clients

    @property
    def value_bits(self) -> int:
        """How many bits, the sign among them, one client's integers may use in full."""
        return (self.largest + 1).bit_length()

    @property
    def step(self) -> float:
        """The step of the grid on which a client with the most examples rounds its values, in
        their unit; with half the examples it is twice as coarse."""
        return self.clip / self.largest

    def encode(self, values: np.ndarray, examples: float, rng: np.random.Generator) -> np.ndarray:
        """Return (d + 1,) elements of the ring: of each value, and the weight in the last place.

        Rounding is stochastic: up with the probability of what is lost by rounding down, so that
        it is right on average (Gupta et al. 2015, arXiv:1502.02551, section 3). The weight is an
        integer as well, `examples` / `most_examples` in steps of 1 / `largest`, and the values are
        multiplied by this one: whatever a weight was rounded to, the sum gives a weighted mean.
        One below a level may be rounded to 0; were all others', the sum would be one client's
        vector. So a client needs a whole level, or 40 / `clients` of it where these are more.

        Args:
            values: (d,), finite floats.
            examples: of this client: 0, or enough for its weight, and at most `most_examples`.
            rng: of the rounding.

        Raises:
            ValueError: one of these is not so.
        """
        values = np.asarray(values, np.float64)
        require(values.ndim == 1, "values", values.shape, "one dimension")
        require(bool(np.isfinite(values).all()), "values", "NaN or infinite", "finite numbers")
        fine = is_number(examples, 0) and examples <= self.most_examples
        require(fine, "examples", examples, f"0 to {self.most_examples}, the most of one client")
        least = min(1.0, _TOGETHER / self.clients) * self.most_examples
        fine = examples == 0 or examples * self.largest >= least
        enough = f"0 or at least {least / self.largest:.4g}: most_examples={self.most_examples:g}"
        coarse = f"{enough} is too large for {self.bits} bits and {self.clients} clients"
        require(fine, "examples", examples, coarse)
        weight = _rounded(np.array([examples * self.largest / self.most_examples]), rng)
        scaled = np.clip(values / self.clip, -1, 1) * weight
        whole = np.concatenate([_rounded(scaled, rng), weight])
        return whole.astype(np.int64).astype(self.element)

    def decode(self, total: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the weighted mean of the clients' values, and the sum of their weights.

        Args:
            total: (d + 1,) elements of the ring: the sum of what at most `clients` encoded.

        Returns:
            The mean, (d,) float64, and the examples, as exact as the weights were rounded.

        Raises:
            ValueError: another shape or dtype came; the weights are 0 together; or this is the sum
                of no such elements, for a value is larger than its weights allow. Elements at
                random get by with a chance of about 1 / 2d.
        """
        dtype = self.element
        fine = total.ndim == 1 and len(total) > 0 and total.dtype == dtype
        require(fine, "total", f"{total.dtype} {total.shape}", f"{dtype} (d + 1,)")
        signed = total.view(f"<i{dtype.itemsize}").astype(np.float64)
        sums, weight = signed[:-1], signed[-1]
        most = self.clients * self.largest
        cancelled = f"1 to {most}; do masks not cancel?"
        require(0 < weight <= most, "total", f"a sum of weights {weight:.0f}", cancelled)
        largest = np.abs(sums).max(initial=0)
        within = f"at most {weight:.0f}, the sum of weights; do masks not cancel?"
        require(largest <= weight, "total", f"a sum of values {largest:.0f}", within)
        return sums / weight * self.clip, weight * self.most_examples / self.largest


def _rounded(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a neighbouring integer of each, right on average; integers stay as they are."""
    low = np.floor(values)
    return low + (rng.random(values.shape) < values - low)
