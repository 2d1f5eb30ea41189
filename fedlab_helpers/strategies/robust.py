"""How many updates become one change when some of them may lie.

All but `Clipped` hold the updates of a round at once, written out whole, and count each client the
same: a client that lies may also lie about how many reviews it has.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, floor, inf
from numbers import Integral

import torch
from torch import Tensor

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require_positive
from fedlab_helpers.core.rows import make_whole
from fedlab_helpers.core.state import State, flatten, norm
from fedlab_helpers.core.strategy import Combine, Strategy, require_cohort
from fedlab_helpers.strategies.means import BY_EXAMPLES
from fedlab_helpers.strategies.registry import registered


def _stacked(base: State, updates: Iterable[Update]) -> State:
    """Return each tensor of all updates in one, (K, …) float64; at least one update."""
    deltas = [make_whole(update, base).delta for update in updates]
    if not deltas:
        raise ValueError("updates: got none, expected at least one")
    return {name: torch.stack([delta[name].double() for delta in deltas]) for name in base}


def _rounded(combined: State, base: State) -> State:
    return {
        name: (t if base[name].is_floating_point() else t.round()).to(base[name].dtype)
        for name, t in combined.items()
    }


def _selected(stacked: State, shares: Tensor) -> State:
    """Return the mean of the clients with these shares, (K,), which sum to 1."""
    return {name: torch.tensordot(shares, t, dims=1) for name, t in stacked.items()}


@dataclass(frozen=True)
class Median:
    """The median of each single weight's changes (Yin et al. 2018, arXiv:1803.01498, definition 1).

    Of an even number of clients, the mean of the two in the middle. For an embedding row that
    fewer than half of the clients touched, it is zero: rare words are not learned.
    """

    per_row = False

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the medians."""
        medians = {}
        for name, values in _stacked(base, updates).items():
            ordered, count = values.sort(dim=0).values, len(values)
            medians[name] = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
        return _rounded(medians, base)


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of each single weight's changes without the most extreme ones.

    Yin et al. 2018, arXiv:1803.01498, definition 2.

    Args:
        share: of the clients left out at either end, rounded down; from 0 to below one half.
    """

    share: float = 0.2
    per_row = False

    def __post_init__(self):
        if not 0 <= self.share < 0.5:
            raise ValueError(f"share: got {self.share!r}, expected a number in [0, 0.5)")

    @property
    def least_cohort(self) -> int:
        """The least number of clients of which one is left out at either end."""
        return ceil(1 / self.share) if self.share else 1

    def require_cohort(self, size: int) -> None:
        """Raise a ValueError if nobody would be left out of a cohort of so many clients."""
        if size < self.least_cohort:
            raise ValueError(
                f"share: got {self.share!r} for a cohort of {size}, of which it leaves out nobody; "
                f"it takes {self.least_cohort} clients"
            )

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the trimmed means."""
        means = {}
        for name, values in _stacked(base, updates).items():
            cut = floor(self.share * len(values))
            means[name] = values.sort(dim=0).values[cut : len(values) - cut].mean(0)
        return _rounded(means, base)


@dataclass(frozen=True)
class Krum:
    """The update in the thick of the crowd, or the mean of several such.

    A client's score is the sum of its squared distances to its K - f - 2 nearest neighbours
    (Blanchard et al. 2017, arXiv:1703.02757, section 4); those with the least scores are taken.

    Where updates of a cohort are missing, refused or lost, f falls to what the crowd of the others
    allows, and the guarantee with it: it holds while more than 2 h + 2 come, h of them hostile.
    One or two updates have no crowd, and are averaged.

    Args:
        f: how many of a cohort may be hostile; the cohort needs at least 2 f + 3 clients.
        keep: how many updates are averaged: 1 is Krum, more is Multi-Krum.
    """

    f: int = 2
    keep: int = 1
    per_row = False

    def __post_init__(self):
        for name, least in (("f", 0), ("keep", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}: got {value!r}, expected an integer of at least {least}")

    @property
    def least_cohort(self) -> int:
        """The least number of clients with which it works."""
        return max(2 * self.f + 3, self.keep + self.f)

    def require_cohort(self, size: int) -> None:
        """Raise a ValueError if f or keep is too large for a cohort of so many clients."""
        if size < 2 * self.f + 3:
            raise ValueError(
                f"f: got {self.f} for a cohort of {size}; it takes {2 * self.f + 3} clients, "
                "so that honest ones are the crowd"
            )
        if self.keep > size - self.f:
            raise ValueError(f"keep: got {self.keep}, expected at most {size - self.f}")

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the mean of the chosen updates."""
        stacked = _stacked(base, updates)
        count = len(next(iter(stacked.values())))
        f = max(0, min(self.f, (count - 3) // 2))
        keep = min(self.keep, count - f) if count > 2 else count
        vectors = torch.stack(
            [flatten({n: t[k] for n, t in stacked.items()}) for k in range(count)]
        )
        # Not by a matrix product, which cancels digits between close updates.
        distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.square().sort(dim=1).values[:, 1 : count - f - 1]
        chosen = nearest.sum(1).argsort(stable=True)[:keep]
        shares = vectors.new_zeros(count).index_fill_(0, chosen, 1 / keep)
        return _rounded(_selected(stacked, shares), base)


@dataclass(frozen=True)
class GeometricMedian:
    """RFA: the point whose summed distance to all updates is least, by Weiszfeld's steps.

    Pillutla et al. 2022, arXiv:1912.13445, Algorithm 2, with equal weights.

    Args:
        iterations: at most so many steps; they end earlier where nothing moves any more.
        smoothing: distances below this count as this, so that none is divided by zero.
    """

    iterations: int = 100
    smoothing: float = 1e-6
    per_row = False

    def __post_init__(self):
        require_positive(iterations=self.iterations, smoothing=self.smoothing)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the geometric median."""
        stacked = _stacked(base, updates)
        count = len(next(iter(stacked.values())))
        shares = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
        for _ in range(self.iterations):
            centre = _selected(stacked, shares)
            distances = torch.tensor(
                [norm({n: t[k] - centre[n] for n, t in stacked.items()}) for k in range(count)],
                dtype=torch.float64,
                device="cpu",
            ).clamp_min(self.smoothing)
            nearer = 1 / distances / (1 / distances).sum()
            if torch.allclose(nearer, shares, rtol=0, atol=1e-9):
                break
            shares = nearer
        return _rounded(_selected(stacked, shares), base)


@dataclass(frozen=True)
class Clipped:
    """Changes longer than `max_norm` are shortened to it before they are combined.

    Sun et al. 2019, arXiv:1911.07963, section 4: nobody can pull farther than anybody else.
    """

    max_norm: float = 20.0
    combine: Combine = BY_EXAMPLES

    def __post_init__(self):
        require_positive(max_norm=self.max_norm)

    @property
    def per_row(self) -> bool:
        """Whether the combination underneath needs to know touched rows."""
        return self.combine.per_row

    @property
    def least_cohort(self) -> int:
        """What the combination underneath needs."""
        return getattr(self.combine, "least_cohort", 1)

    def require_cohort(self, size: int) -> None:
        """Raise a ValueError if the combination underneath needs a larger cohort."""
        require_cohort(self.combine, size)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the combination of the shortened changes."""
        return self.combine(base, map(self._shortened, updates))

    def _shortened(self, update: Update) -> Update:
        floats = {n: d for n, d in update.delta.items() if d.is_floating_point()}
        scale = min(1.0, self.max_norm / (norm(floats) or inf))
        return replace(update, delta=update.delta | {n: d * scale for n, d in floats.items()})


@registered("of each weight, the median change")
def median() -> Strategy:
    """Return the coordinate-wise median."""
    return Strategy(Median())


@registered("of each weight, the mean without the extreme changes", share=(0.0, 0.45))
def trimmed_mean(share: float = TrimmedMean.share) -> Strategy:
    """Return the coordinate-wise mean without this share of the clients at either end."""
    return Strategy(TrimmedMean(share))


@registered("the update in the thick of the crowd, or the mean of several", f=(0, 10), keep=(1, 20))
def krum(f: int = Krum.f, keep: int = Krum.keep) -> Strategy:
    """Return Krum against `f` hostile clients a round; Multi-Krum where `keep` is above 1."""
    return Strategy(Krum(f, keep))


@registered("the point that is nearest to all updates together")
def geometric_median() -> Strategy:
    """Return RFA, the geometric median of the updates."""
    return Strategy(GeometricMedian())


@registered("the mean of changes that are cut to a greatest length", max_norm=(1.0, 100.0))
def norm_clipping(max_norm: float = Clipped.max_norm, combine: Combine = BY_EXAMPLES) -> Strategy:
    """Return a mean of changes no longer than `max_norm`."""
    return Strategy(Clipped(max_norm, combine))
