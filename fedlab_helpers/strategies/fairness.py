"""Strategies that give more weight to the clients for whom the global model does badly.

Each client first evaluates the received weights on its own reviews, and sends that loss.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import is_number, require, require_positive
from fedlab_helpers.core.state import RunningMean, State, norm, zeros_like
from fedlab_helpers.core.strategy import Combine, LocalRun, ServerState, Strategy
from fedlab_helpers.strategies.means import UNIFORM
from fedlab_helpers.strategies.registry import registered


@dataclass(frozen=True)
class TellsLoss(Strategy):
    """A strategy whose clients send the loss of the weights they received, as "loss"."""

    asks_loss = True

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        return {"loss": torch.tensor([run.loss], dtype=torch.float32, device="cpu")}, {}

    def extra_like(self, params: State) -> State:
        return {"loss": torch.zeros(1, dtype=torch.float32, device="cpu")}


def _loss(update: Update) -> float:
    """Return the loss that a client sent; no power of it that is taken here leaves float64."""
    return min(max(update.extra["loss"].item(), 1e-10), 1e10)


@dataclass(frozen=True)
class QMean:
    """The combination of q-FedAvg: Li et al. 2020, arXiv:1905.10497, Algorithm 2.

    With F_k the loss before training and L = 1 / lr, the change is sum_k F_k^q L Δ_k over
    sum_k (q F_k^(q-1) ‖L Δ_k‖² + L F_k^q): a weighted sum, with a step size that needs no tuning
    as q grows. With q = 0 it is the plain mean.

    Args:
        q: how much fairness counts, from 0 to 20.
        lr: the clients' learning rate.
    """

    q: float = 0.1
    lr: float = 3.0
    changes_only = True
    per_row = False
    linear = True

    def __post_init__(self):
        require(0 <= self.q <= 20, "q", self.q, "a number from 0 to 20")
        require_positive(lr=self.lr)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        mean, curvature = RunningMean(base), 0.0
        for update in updates:
            loss = _loss(update)
            length = norm(update.delta) / self.lr
            mean.add(update.delta, loss**self.q / self.lr, update.touched_rows)
            curvature += self.q * loss ** (self.q - 1) * length**2 + loss**self.q / self.lr
        scale, change = mean.weight / curvature, mean.result()
        return {n: t * scale if t.is_floating_point() else t for n, t in change.items()}


@dataclass(frozen=True)
class WorstGroup(TellsLoss):
    """A mean whose weights move towards the clients with the largest losses.

    In the spirit of agnostic federated learning (Mohri et al. 2019, arXiv:1902.00146): minimise
    the worst mixture of the clients. After each round λ_k is multiplied by exp(rate · F_k), for
    the clients that took part, and all are scaled to sum to 1 (the update of Sagawa et al. 2020,
    arXiv:1911.08731, Algorithm 1, which keeps every weight above 0).

    Args:
        rate: how fast; 0 stays at the plain mean.
    """

    combine: Combine = UNIFORM
    rate: float = 0.1

    changes_only = True

    def __post_init__(self):
        super().__post_init__()
        require(is_number(self.rate, 0), "rate", self.rate, "a finite number not below 0")
        fine = self.combine == UNIFORM
        require(fine, "combine", self.combine, f"{UNIFORM}: the weights are this strategy's")

    def init(self, params: State, clients: int = 1) -> ServerState:
        weights = torch.full((clients,), 1 / clients, dtype=torch.float64, device="cpu")
        return ServerState(params, clients=clients, memory={"groups": {"weights": weights}})

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        weights = server.memory["groups"]["weights"].clone()
        mean = RunningMean(zeros_like(server.params))
        for update in updates:
            mean.add(update.delta, weights[update.client].item(), update.touched_rows)
            grown = min(self.rate * _loss(update), 80.0)  # exp of more is infinite in float32
            weights[update.client] *= torch.tensor(grown, dtype=torch.float32, device="cpu").exp()
        moved = self.step(server, mean.result())
        shares = (weights / weights.sum()).clamp_min(1e-30)  # who was outgrown may come back
        memory = moved.memory | {"groups": {"weights": shares}}
        return replace(moved, memory=memory, round=server.round + 1)


@registered(server_rate=False, for_sgd=True, knows_client_rate=True, q=(0.0, 5.0))
def qfedavg(q: float = QMean.q, lr: float = QMean.lr) -> TellsLoss:
    """q-FedAvg, for clients of rate `lr`: the larger q, the more those with large losses count."""
    return TellsLoss(QMean(q, lr))


@registered(rate=(0.0, 2.0))
def worst_group(rate: float = WorstGroup.rate) -> WorstGroup:
    """Weights move, at this rate, towards the clients with the largest losses."""
    return WorstGroup(rate=rate)
