"""An audit of clipping and noise: made-up clients whose part in a run one tries to tell from what
is released.

Half of the canaries, by a coin each, take part in every round with an update of their own random
direction. Where the released sums point along the directions of those inside more than the noise
would allow, the claimed epsilon is wrong: an update was too long, or noise is missing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import fft
from scipy.optimize import brentq
from scipy.stats import binom

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.require import require, require_count, require_positive
from fedlab_helpers.core.state import State, require_same_shapes
from fedlab_helpers.privacy.budget import epsilon_of

GUESSED = 1 / 3  # share of the canaries whose part is guessed: those farthest out on either side
MOST = 50.0  # epsilon above which no number of guesses can tell anything


@dataclass(frozen=True, eq=False)
class Canaries:
    """Clients with updates of random directions, which are drawn again from the seed, not kept.

    In each tensor the directions are columns of a cosine transform whose rows got random signs.
    So they are orthogonal in each tensor, and no canary disturbs the score of another. That needs
    a tensor with as many values as there are canaries: in a smaller one they are 0, and what goes
    wrong there is not seen. Fewer canaries see smaller tensors.

    Args:
        like: gives names, shapes and dtypes of an update.
        count: how many; about half of them take part. With 500 the estimate of an epsilon of 8 has
            a standard error of 7 %, with 1,000 of 5 %.
        norm: Euclidean norm of an update, spread evenly over the tensors; well above the norm that
            updates are clipped to, or it is not seen whether they are.
        seed: of the directions and of who takes part.

    Raises ValueError for numbers out of range, and where no tensor is large enough.
    """

    like: State
    count: int = 500
    norm: float = 100.0
    seed: int = 0

    def __post_init__(self):
        require_count(count=self.count)
        require_positive(norm=self.norm)
        largest = max((t.numel() for t in self.like.values() if t.is_floating_point()), default=0)
        fits = f"at most {largest}, the values of the largest tensor"
        require(self.count <= largest, "count", self.count, fits)

    @cached_property
    def inside(self) -> np.ndarray:
        """Who takes part: (count,) bool."""
        return numpy_rng(self.seed, "inside").random(self.count) < 0.5

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors in which canaries are seen."""
        floats = {name: t for name, t in self.like.items() if t.is_floating_point()}
        return tuple(name for name, t in floats.items() if t.numel() >= self.count)

    def update(self, canary: int) -> State:
        """Return the update of one canary, shaped like `like`; 0 to count - 1."""
        require(0 <= canary < self.count, "canary", canary, f"0 to {self.count - 1}")
        update = {name: torch.zeros_like(tensor) for name, tensor in self.like.items()}
        for name in self.tensors:
            signs, columns = self._directions(name)
            column = np.zeros(len(signs))
            column[columns[canary]] = self.norm / math.sqrt(len(self.tensors))
            values = torch.from_numpy(signs * fft.idct(column, norm="ortho"))
            update[name] = values.to(update[name]).view_as(update[name])
        return update

    def updates(self) -> list[State]:
        """Return the updates of those inside."""
        return [self.update(int(canary)) for canary in np.flatnonzero(self.inside)]

    def scores(self, released: State) -> np.ndarray:
        """Return how far a released sum, or mean, points along each canary's direction: (count,
        tensors) float64, a column for each name in `tensors`. Scores of rounds are added up."""
        require_same_shapes(released, self.like, "released")
        return np.column_stack([self._scores(name, released[name]) for name in self.tensors])

    def _scores(self, name: str, released: torch.Tensor) -> np.ndarray:
        signs, columns = self._directions(name)
        values = released.detach().cpu().double().flatten().numpy()
        return fft.dct(signs * values, norm="ortho")[columns]

    def _directions(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        rng = numpy_rng(self.seed, "directions", name)
        size = self.like[name].numel()
        return rng.choice([-1.0, 1.0], size), rng.permutation(size)[: self.count]


@dataclass(frozen=True)
class Audit:
    """What the scores of canaries say of a run.

    Args:
        mu: by how many standard deviations the scores of those inside lie above the others'.
        epsilon: an estimate, by the closed form for `mu`; no bound.
        at_least: with 95 % confidence epsilon is not below this. It is far below the truth as a
            rule, and at most log(canaries / 9) or so: a low one vouches for nothing.
    """

    mu: float
    epsilon: float
    at_least: float


def audit(
    mechanism: Callable[[list[State]], State],
    canaries: Canaries,
    rounds: int,
    delta: float = 1e-5,
) -> Audit:
    """Return what canaries that take part in all rounds tell of a mechanism.

    Args:
        mechanism: takes the updates of a round, clips them, and returns their sum, or mean, with
            noise, as it is released.
        canaries: whose updates it gets; nobody else takes part.
        rounds: at least 1.
        delta: above 0 and below 1.
    """
    require_count(rounds=rounds)
    updates = canaries.updates()
    scores = sum(canaries.scores(mechanism(updates)) for _ in range(rounds))
    return of_scores(scores, canaries.inside, delta)


def of_scores(scores: np.ndarray, inside: np.ndarray, delta: float = 1e-5) -> Audit:
    """Return what scores say, added up over the rounds of a run.

    The estimate takes the scores for Gaussian, as Andrew et al. 2023, arXiv:2302.03098, do; the
    noise of tensors is independent, so that their squared `mu` add up (Dong, Roth and Su 2019,
    arXiv:1905.02383, Corollary 3.3), less what chance alone would give. The bound assumes nothing
    of the noise: it counts right guesses of who was inside (Steinke, Nasr and Jagielski 2023,
    arXiv:2305.08846, Theorem 5.2).

    Args:
        scores: (canaries, tensors) float, as of `Canaries.scores`.
        inside: (canaries,) bool, drawn by coins.
        delta: above 0 and below 1.
    """
    fine = scores.ndim == 2 and inside.shape == scores.shape[:1]
    require(fine, "scores", scores.shape, f"({len(inside)}, tensors), a row for each canary")
    known = bool(np.isfinite(scores).all())
    require(known, "scores", "NaN or infinite", "finite numbers, of which an epsilon can be told")
    took_part = int(inside.sum())
    both = 2 <= took_part <= len(inside) - 2
    require(both, "inside", took_part, f"2 to {len(inside) - 2} canaries that took part")
    mu = _separation(scores, inside)
    one_side = round(GUESSED * len(inside) / 2)
    order = scores.sum(1).argsort()
    guessed = np.concatenate([~inside[order[:one_side]], inside[order[len(order) - one_side :]]])
    at_least = epsilon_at_least(int(guessed.sum()), len(guessed), len(inside), delta)
    return Audit(mu, epsilon_of(mu, delta), at_least)


def _separation(scores: np.ndarray, inside: np.ndarray) -> float:
    took_part, others = scores[inside], scores[~inside]
    apart = np.square(took_part.mean(0) - others.mean(0))
    variance = (took_part.var(0, ddof=1) + others.var(0, ddof=1)) / 2
    without_noise = np.where(apart > 0, math.inf, 0.0)
    squares = np.divide(apart, variance, out=without_noise, where=variance > 0)
    by_chance = 1 / len(took_part) + 1 / len(others)
    return math.sqrt(max(0.0, float((squares - by_chance).sum())))


def epsilon_at_least(
    right: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Return the largest epsilon that so many right guesses refute; 0 where they refute none.

    Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, Theorem 5.2.

    Args:
        right: how many of the guesses were.
        guesses: whether a canary took part; which ones are guessed, the released values may say.
        canaries: all whose part was drawn by a coin, guessed or not.
        delta: at least 0 and below 1.
        confidence: above 0 and below 1; the share of audits in which the bound holds, at least.

    Raises ValueError for numbers out of range.
    """
    require(0 <= right <= guesses, "right", right, f"0 to {guesses}, the guesses")
    require(guesses <= canaries, "guesses", guesses, f"at most {canaries}, the canaries")
    require(0 <= delta < 1, "delta", delta, "a number of at least 0 and below 1")
    require(0 < confidence < 1, "confidence", confidence, "a number above 0 and below 1")

    def too_likely(epsilon: float) -> float:
        return _chance(right, guesses, canaries, epsilon, delta) - (1 - confidence)

    return 0.0 if too_likely(0.0) >= 0 else brentq(too_likely, 0.0, MOST, xtol=1e-6)


def _chance(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Return an upper bound on the chance of at least so many right guesses where epsilon holds."""
    each = 1 / (1 + math.exp(-epsilon))
    spared = np.arange(1, right + 1)
    less = binom.pmf(right - spared, guesses, each).cumsum() / spared
    return binom.sf(right - 1, guesses, each) + 2 * canaries * delta * less.max(initial=0.0)
