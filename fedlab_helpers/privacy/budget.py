"""What clipping and Gaussian noise amount to: epsilon and delta, and the noise that a budget needs.

In each round the server sums its cohort's updates, each clipped to one norm, adds noise of
`noise_multiplier * norm` to every value, and divides by a number that was known beforehand.
Everybody sees the result of every round.
"""

import math
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from fedlab_helpers.core.require import (
    is_count,
    is_number,
    require,
    require_count,
    require_positive,
)

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import PLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

LOSSES = 4_000  # steps of the grid from no privacy loss to the largest of one round
_VAST = 1e6  # standard deviations; without noise, the rounding of float32 alone gives more
TAIL = 11.0  # standard deviations of the noise; beyond, probability 1e-28, a loss has no bound

Sampling = Literal["all", "poisson", "fixed"]


def delta_of(epsilon: float | np.ndarray, mu: float) -> float | np.ndarray:
    """Return the least delta of `mu`-Gaussian differential privacy at `epsilon`; an array for an
    array.

    Dong, Roth and Su 2019, arXiv:1905.02383, Corollary 2.13; Balle and Wang 2018,
    arXiv:1805.06530, Theorem 8.

    Args:
        epsilon: at least 0.
        mu: how many standard deviations of the noise one client moves the sum, above 0. T rounds
            with one client in all of them: sqrt(T) / noise multiplier.

    Raises ValueError for numbers out of range.
    """
    from scipy.special import log_ndtr

    require(bool(np.all(np.asarray(epsilon) >= 0)), "epsilon", epsilon, "a number of at least 0")
    require_positive(mu=mu)
    log_with = log_ndtr(mu / 2 - epsilon / mu)
    log_without = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return -np.exp(log_with) * np.expm1(log_without - log_with)


def epsilon_of(mu: float, delta: float) -> float:
    """Return the least epsilon of `mu`-Gaussian differential privacy at `delta`: what `delta_of`
    turns back into `delta`, or 0 where no epsilon is needed for it.

    Args:
        mu: as of `delta_of`; 0 and inf are accepted, and give 0 and inf.
        delta: above 0 and below 1.

    Raises ValueError for numbers out of range.
    """
    from scipy.optimize import brentq  # takes half a second to load
    from scipy.special import ndtri

    _require_delta(delta)
    if mu in (0, math.inf):
        return float(mu)
    if delta_of(0.0, mu) <= delta:
        return 0.0
    too_high = mu * (mu / 2 - ndtri(delta))
    if mu > _VAST:  # this is right to twelve digits, and with more rounding swallows delta
        return too_high
    return brentq(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, too_high, xtol=1e-13)


@dataclass(frozen=True)
class Mechanism:
    """A run with clipped updates and Gaussian noise, as an accountant sees it.

    What epsilon says depends on how cohorts are drawn; `neighbours` names it.

    Args:
        noise_multiplier: standard deviation of the noise on the sum, in clipping norms, above 0.
        rounds: rounds whose result is seen; 0: nothing is seen, and epsilon is 0.
        clients: clients in all.
        cohort: clients of a round; with "poisson" the expected number.
        sampling: "all": every client in every round. "poisson": each client by its own coin, with
            probability cohort / clients, in every round. "fixed": exactly `cohort` clients, drawn
            without replacement in every round.
        delta: above 0 and below 1; a delta of 1 / clients would allow to publish one of them.

    Raises ValueError for a value out of range, and for "all" with a smaller cohort.
    """

    noise_multiplier: float
    rounds: int
    clients: int
    cohort: int
    sampling: Sampling = "poisson"
    delta: float = 1e-5

    def __post_init__(self):
        require_positive(noise_multiplier=self.noise_multiplier)
        countable = self.rounds == 0 or is_count(self.rounds)
        require(countable, "rounds", self.rounds, "an integer of at least 0")
        require_count(clients=self.clients, cohort=self.cohort)
        at_most = f"at most {self.clients}, the clients in all"
        require(self.cohort <= self.clients, "cohort", self.cohort, at_most)
        samplings = get_args(Sampling)
        require(self.sampling in samplings, "sampling", self.sampling, f"one of {samplings}")
        whole = self.sampling != "all" or self.cohort == self.clients
        everybody = f"{self.clients}, everybody, with sampling 'all'"
        require(whole, "cohort", self.cohort, everybody)
        _require_delta(self.delta)

    @property
    def neighbours(self) -> str:
        """Which two runs epsilon says are hard to tell apart.

        "add or remove one client": one client more or less; what it moves the sum by is one norm.
        "replace one client": another client in its place, who may send the opposite, so that it is
        two norms. With a cohort of fixed size only this can be said: without one client somebody
        else would have been drawn.
        """
        return "replace one client" if self.sampling == "fixed" else "add or remove one client"

    @property
    def mu(self) -> float:
        """How many standard deviations of the noise a client moves the sum of one round."""
        return (2 if self.sampling == "fixed" else 1) / self.noise_multiplier

    def epsilon(self) -> float:
        """Return epsilon after all rounds, at `delta`, for the neighbours that `neighbours` names.

        With everybody in every round it is the closed form of `epsilon_of`. Else it is an upper
        bound, by composing the distribution of the privacy loss of one round (Koskela et al. 2020,
        arXiv:1906.03049; discretised as in Doroshenko et al. 2022, arXiv:2207.04380). For "poisson"
        it is tight. For "fixed" it is tight in one round; 100 of 1,000 clients and a noise
        multiplier of 1 give 16.10 after 20 rounds, where an attack is known for 15.60.
        """
        if self.rounds == 0 or self.cohort == self.clients:
            return epsilon_of(math.sqrt(self.rounds) * self.mu, self.delta)
        return self._round().self_compose(self.rounds).get_epsilon_for_delta(self.delta)

    def epsilon_by_round(self) -> list[float]:
        """Return what `epsilon` is after 1, 2, ... and all rounds."""
        if self.cohort == self.clients:
            return [replace(self, rounds=done + 1).epsilon() for done in range(self.rounds)]
        seen = accumulate(repeat(self._round(), self.rounds), lambda all, one: all.compose(one))
        return [losses.get_epsilon_for_delta(self.delta) for losses in seen]

    def _round(self) -> "PrivacyLossDistribution":
        """Return the privacy loss of one round, discretised so that it is never too small."""
        from dp_accounting.pld import privacy_loss_distribution as losses  # takes a second to load

        share, mu = self.cohort / self.clients, self.mu
        largest = np.logaddexp(math.log1p(-share), math.log(share) + mu * (mu / 2 + TAIL))
        step = float(largest) / LOSSES
        if self.sampling == "fixed":
            return losses.PrivacyLossDistribution(_losses_without_replacement(share, mu, step))
        return losses.from_gaussian_mechanism(
            1 / mu, value_discretization_interval=step, sampling_prob=share
        )


def noise_multiplier_for(
    epsilon: float,
    rounds: int,
    clients: int,
    cohort: int,
    sampling: Sampling = "poisson",
    delta: float = 1e-5,
) -> float:
    """Return the least noise multiplier, up to 0.1 %, with which a run stays within `epsilon`.

    Args:
        epsilon: the budget, above 0, for the neighbours that `Mechanism.neighbours` names.
        rounds: at least 1.
        clients, cohort, sampling, delta: as of `Mechanism`.

    Raises ValueError for values out of range.
    """
    require_positive(epsilon=epsilon)
    require_count(rounds=rounds)
    run = Mechanism(1.0, rounds, clients, cohort, sampling, delta)

    def kept(noise_multiplier: float) -> bool:
        return replace(run, noise_multiplier=noise_multiplier).epsilon() <= epsilon

    enough = 1.0
    while not kept(enough):
        enough *= 2
    while kept(enough / 2):
        enough /= 2
    too_little = enough / 2
    while enough / too_little > 1.001:
        middle = math.sqrt(enough * too_little)
        too_little, enough = (too_little, middle) if kept(middle) else (middle, enough)
    return enough


def _losses_without_replacement(share: float, mu: float, step: float) -> "PLDPmf":
    """Return a distribution of losses on the grid of `step` that is above that of one round with a
    cohort of fixed size, for neighbours of which one client is replaced.

    For epsilon >= 0 its delta is share * delta_of(log(1 + (e^epsilon - 1) / share), mu), by Balle,
    Barthe and Gaboardi 2018, arXiv:1807.01647, on sampling without replacement under substitution.
    Below 0 it follows by exchanging the neighbours: delta(-epsilon) = 1 - e^-epsilon + e^-epsilon
    delta(epsilon). A curve of delta above that of all neighbours can be composed (Zhu, Dong and
    Wang 2022, arXiv:2106.08567). dp-accounting's own bound, by Rényi divergences, is looser, and
    its version 0.6 takes a client to move the sum by one norm here, where it is two.
    """
    from dp_accounting.pld import pld_pmf

    epsilon = step * np.arange(LOSSES + 1)
    of_cohort = epsilon + np.log1p((share - 1) * np.exp(-epsilon)) - math.log(share)
    delta = share * delta_of(np.maximum(0.0, of_cohort), mu)
    exchanged = -np.expm1(-epsilon) + np.exp(-epsilon) * delta
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
        step, -LOSSES, LOSSES, np.concatenate([exchanged[:0:-1], delta])
    )


def _require_delta(delta: float) -> None:
    require(is_number(delta) and 0 < delta < 1, "delta", delta, "a number above 0 and below 1")
