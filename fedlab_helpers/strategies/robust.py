"""How many updates become one change when some of them may lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import is_count, require, require_count, require_positive
from fedlab_helpers.core.state import State, flatten, norm, subtract
from fedlab_helpers.core.strategy import Combine, Strategy, least_cohort
from fedlab_helpers.privacy import Clip
from fedlab_helpers.strategies.means import BY_EXAMPLES
from fedlab_helpers.strategies.registry import registered, require_told_nothing


class Robust:
    """A combination that sees the updates of a round at once, written out whole, and counts each
    client the same: one that lies may also lie about how many reviews it has."""

    per_row = False
    least_cohort = 1  # the least number of clients with which it works

    def of(self, changes: State) -> State:
        """Return the combination of changes, each tensor (K, …) float64 of K clients."""
        raise NotImplementedError

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        deltas = [_whole(update, base) for update in updates]
        require(len(deltas) > 0, "updates", deltas, "at least one")
        odd = [name for name, tensor in base.items() if tensor.is_complex()]
        require(not odd, "updates: complex", odd, "real numbers, which have an order")
        whole = self.of({name: torch.stack([d[name].double() for d in deltas]) for name in base})
        return {
            name: (whole[name] if like.is_floating_point() else whole[name].round()).to(like.dtype)
            for name, like in base.items()
        }


def _whole(update: Update, base: State) -> State:
    """Return what came, with `base` in the rows that were not touched."""
    rows, came = update.touched_rows, update.delta
    return {n: base[n].index_copy(0, rows[n], t) if n in rows else t for n, t in came.items()}


def _weighted(changes: State, shares: Tensor) -> State:
    """Return the mean of the clients with these shares, (K,), which sum to 1."""
    return {name: torch.tensordot(shares, t, dims=1) for name, t in changes.items()}


@dataclass(frozen=True)
class Median(Robust):
    """The median of each single weight's changes (Yin et al. 2018, arXiv:1803.01498, definition 1).

    Of an even number of clients, the mean of the two in the middle. For an embedding row that
    fewer than half of the clients touched, it is zero: rare words are not learned.
    """

    def of(self, changes: State) -> State:
        ordered = {name: values.sort(dim=0).values for name, values in changes.items()}
        return {n: (t[(len(t) - 1) // 2] + t[len(t) // 2]) / 2 for n, t in ordered.items()}


@dataclass(frozen=True)
class TrimmedMean(Robust):
    """The mean of each single weight's changes without the most extreme ones.

    Yin et al. 2018, arXiv:1803.01498, definition 2.

    Args:
        share: of the clients left out at either end, rounded down; from 0 to below one half. Above
            0 it is one at least, also where updates of a cohort are missing, refused or lost: as
            many of the extremes go as the others allow. One or two updates are averaged.
    """

    share: float = 0.2

    def __post_init__(self):
        require(0 <= self.share < 0.5, "share", self.share, "a number in [0, 0.5)")

    @property
    def least_cohort(self) -> int:
        """The least number of clients of which one is left out at either end."""
        return ceil(1 / self.share - 1e-9) if self.share else 1

    def of(self, changes: State) -> State:
        means = {}
        for name, values in changes.items():
            count = len(values)
            cut = max(1, floor(self.share * count + 1e-9)) if self.share else 0
            cut = min(cut, (count - 1) // 2)
            means[name] = values.sort(dim=0).values[cut : count - cut].mean(0)
        return means


@dataclass(frozen=True)
class Krum(Robust):
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

    def __post_init__(self):
        require(self.f == 0 or is_count(self.f), "f", self.f, "an integer of at least 0")
        require_count(keep=self.keep)

    @property
    def least_cohort(self) -> int:
        """The least number of clients of which honest ones are the crowd, with enough to keep."""
        return max(2 * self.f + 3, self.keep + self.f)

    def of(self, changes: State) -> State:
        count = len(next(iter(changes.values())))
        f = max(0, min(self.f, (count - 3) // 2))
        keep = min(self.keep, count - f) if count > 2 else count
        vectors = torch.stack([flatten(_one(changes, k)) for k in range(count)])
        # Not by a matrix product, which cancels digits between close updates.
        distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.square().sort(dim=1).values[:, 1 : count - f - 1]
        chosen = nearest.sum(1).argsort(stable=True)[:keep]
        return _weighted(changes, vectors.new_zeros(count).index_fill_(0, chosen, 1 / keep))


def _one(changes: State, client: int) -> State:
    return {name: tensor[client] for name, tensor in changes.items()}


@dataclass(frozen=True)
class GeometricMedian(Robust):
    """RFA: the point whose summed distance to all updates is least, by Weiszfeld's steps.

    Pillutla et al. 2022, arXiv:1912.13445, Algorithm 2, with equal weights.

    Args:
        iterations: at most so many steps; they end earlier where nothing moves any more, shares
            nor the point itself: of a liar far enough away, any share moves that.
        smoothing: distances below this count as this, so that none is divided by zero.
    """

    iterations: int = 100
    smoothing: float = 1e-6

    def __post_init__(self):
        require_count(iterations=self.iterations)
        require_positive(smoothing=self.smoothing)

    def of(self, changes: State) -> State:
        count = len(next(iter(changes.values())))
        shares = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
        for _ in range(self.iterations):
            centre = _weighted(changes, shares)
            apart = [norm(subtract(_one(changes, k), centre)) for k in range(count)]
            distances = torch.tensor(apart, dtype=torch.float64, device="cpu")
            nearer = 1 / distances.clamp_min(self.smoothing)
            nearer /= nearer.sum()
            if torch.allclose(nearer, shares, rtol=0, atol=1e-9):
                moved = norm(subtract(_weighted(changes, nearer), centre))
                if moved <= 1e-6 * distances.clamp_min(self.smoothing).median():
                    break
            shares = nearer
        return _weighted(changes, shares)


@dataclass(frozen=True)
class Clipped:
    """Changes longer than `max_norm` are shortened to it before they are combined.

    Sun et al. 2019, arXiv:1911.07963, section 4: nobody can pull farther than anybody else.
    """

    max_norm: float = 20.0
    combine: Combine = BY_EXAMPLES

    changes_only = True

    def __post_init__(self):
        require_positive(max_norm=self.max_norm)
        require_told_nothing(self.combine)

    @property
    def per_row(self) -> bool:
        """Whether the combination underneath needs to know touched rows."""
        return self.combine.per_row

    @property
    def least_cohort(self) -> int:
        """What the combination underneath needs."""
        return least_cohort(self.combine)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        return self.combine(base, map(Clip(self.max_norm).clipped, updates))


@registered()
def median() -> Strategy:
    """Of each weight, the median change."""
    return Strategy(Median())


@registered(share=(0.0, 0.45))
def trimmed_mean(share: float = TrimmedMean.share) -> Strategy:
    """Of each weight, the mean without this share of extreme changes at either end."""
    return Strategy(TrimmedMean(share))


@registered(f=(0, 10), keep=(1, 20))
def krum(f: int = Krum.f, keep: int = Krum.keep) -> Strategy:
    """The update in the thick of the crowd, or the mean of several; `f` may be hostile."""
    return Strategy(Krum(f, keep))


@registered()
def geometric_median() -> Strategy:
    """RFA: the point that is nearest to all updates together."""
    return Strategy(GeometricMedian())


@registered(max_norm=(1.0, 100.0))
def norm_clipping(max_norm: float = Clipped.max_norm) -> Strategy:
    """The mean of changes that are cut to a greatest length."""
    return Strategy(Clipped(max_norm))
