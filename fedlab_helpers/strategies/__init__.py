"""The strategies of the series by name: what the server does with the clients' updates.

Each returns a small frozen value. Its parts combine freely: `combine=Mean(per_row=True)` averages
embedding rows row by row under any of them.
"""

from typing import Literal

from fedlab_helpers.core.strategy import Combine, Mean, Strategy
from fedlab_helpers.strategies.drift import Calibrated, FedDyn, FedProx, Scaffold
from fedlab_helpers.strategies.fairness import QMean, TellsLoss, WorstGroup
from fedlab_helpers.strategies.means import Attentive, NormalizedMean
from fedlab_helpers.strategies.robust import Clipped, GeometricMedian, Krum, Median, TrimmedMean
from fedlab_helpers.strategies.server_steps import Adaptive, Momentum

BY_EXAMPLES, UNIFORM = Mean("examples"), Mean("uniform")


def fedavg(sends: Literal["change", "weights"] = "change") -> Strategy:
    """Return FedAvg: the mean of the clients, weighted by their numbers of reviews."""
    return Strategy(BY_EXAMPLES, sends=sends)


def uniform() -> Strategy:
    """Return the plain mean: a client with ten reviews counts as much as one with a thousand."""
    return Strategy(UNIFORM)


def rowwise() -> Strategy:
    """Return FedAvg with each embedding row averaged over the clients that touched it."""
    return Strategy(Mean(per_row=True))


def inverse_loss() -> Strategy:
    """Return the mean in which clients with a small training loss count more."""
    return Strategy(Mean("inverse_loss"))


def by_norm() -> Strategy:
    """Return the mean in which clients whose weights moved far count more."""
    return Strategy(Mean("norm"))


def fedatt(epsilon: float = 1.2) -> Strategy:
    """Return FedAtt, layer-wise attentive averaging with step `epsilon`."""
    return Strategy(Attentive(epsilon))


def fednova(per_row: bool = False) -> Strategy:
    """Return FedNova: changes are averaged per step, so that unequal work does not tilt them."""
    return Strategy(NormalizedMean(per_row))


def fedprox(mu: float, combine: Combine = BY_EXAMPLES) -> FedProx:
    """Return FedProx with proximal weight `mu`, not negative; 0 is FedAvg."""
    return FedProx(combine, mu=mu)


def calibrated(tau: float = 1.0, combine: Combine = BY_EXAMPLES) -> Calibrated:
    """Return FedAvg with logits calibrated to each client's labels, `tau` times; 0 is FedAvg."""
    return Calibrated(combine, tau=tau)


def scaffold(combine: Combine = UNIFORM) -> Scaffold:
    """Return SCAFFOLD, clients with control variates; made for plain SGD."""
    return Scaffold(combine)


def feddyn(alpha: float = 0.01, combine: Combine = UNIFORM) -> FedDyn:
    """Return FedDyn with regularisation `alpha`, above 0."""
    return FedDyn(combine, alpha=alpha)


def fedavgm(lr: float = 1.0, beta: float = 0.9, combine: Combine = BY_EXAMPLES) -> Strategy:
    """Return FedAvg with momentum on the server; with lr 1 and beta 0 it is FedAvg."""
    return Strategy(combine, Momentum(lr, beta))


def fedadagrad(lr: float = 0.01, combine: Combine = BY_EXAMPLES, **options: float) -> Strategy:
    """Return FedAdagrad with server rate `lr`; `options` are those of `Adaptive`."""
    return Strategy(combine, Adaptive("adagrad", lr, **options))


def fedadam(lr: float = 0.01, combine: Combine = BY_EXAMPLES, **options: float) -> Strategy:
    """Return FedAdam with server rate `lr`; `options` are those of `Adaptive`."""
    return Strategy(combine, Adaptive("adam", lr, **options))


def fedyogi(lr: float = 0.01, combine: Combine = BY_EXAMPLES, **options: float) -> Strategy:
    """Return FedYogi with server rate `lr`; `options` are those of `Adaptive`."""
    return Strategy(combine, Adaptive("yogi", lr, **options))


def qfedavg(q: float, lr: float) -> TellsLoss:
    """Return q-FedAvg: the larger `q`, the more clients with large losses count.

    `lr` is the clients' learning rate; with q = 0 it is the plain mean.
    """
    return TellsLoss(QMean(q, lr))


def worst_group(rate: float = 0.1) -> WorstGroup:
    """Return the mean whose weights move towards the clients with the largest losses."""
    return WorstGroup(rate=rate)


def median() -> Strategy:
    """Return the coordinate-wise median."""
    return Strategy(Median())


def trimmed_mean(share: float = 0.1) -> Strategy:
    """Return the coordinate-wise mean without this share of the clients at either end."""
    return Strategy(TrimmedMean(share))


def krum(f: int, keep: int = 1) -> Strategy:
    """Return Krum against `f` hostile clients a round; Multi-Krum where `keep` is above 1."""
    return Strategy(Krum(f, keep))


def geometric_median() -> Strategy:
    """Return RFA, the geometric median of the updates."""
    return Strategy(GeometricMedian())


def norm_clipping(max_norm: float, combine: Combine = BY_EXAMPLES) -> Strategy:
    """Return a mean of changes no longer than `max_norm`."""
    return Strategy(Clipped(max_norm, combine))
