"""What the server does with the clients' updates: strategies, as small frozen values."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from torch import nn

from fedlab_helpers.state import RunningMean, State, add, zeros_like
from fedlab_helpers.training import Hooks
from fedlab_helpers.updates import Update


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round.

    Args:
        params: the global weights, on the CPU.
        round: rounds aggregated so far.
    """

    params: State
    round: int = 0


class Strategy(Protocol):
    """A way to make one model out of many updates."""

    sends: Literal["change", "weights"]  # what `Update.delta` is to hold

    def init(self, params: State) -> ServerState:
        """Return the state before the first round."""

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return the state after a round; `updates` come in cohort order, at least one."""

    def client_hooks(self, model: nn.Module) -> Hooks:
        """Return what changes inside local training; `model` holds the received weights."""


@dataclass(frozen=True)
class WeightedMean:
    """The mean of the clients' changes, added to the global weights.

    Args:
        weights: "examples": n_k / n, as in FedAvg (McMahan et al. 2017, arXiv:1602.05629,
            Algorithm 1); "uniform": each client counts the same.
        per_row: divide each embedding row by the weight of the clients whose reviews contain
            that word, not by everybody's: a rare word's row is then not diluted by the zeros of
            clients that never saw it. An update that is sent whole counts as touching every row.
        sends: clients send their change, or their whole weights (the mean of which is the same
            up to rounding).
    """

    weights: Literal["examples", "uniform"] = "examples"
    per_row: bool = False
    sends: Literal["change", "weights"] = "change"

    def __post_init__(self):
        if self.weights not in ("examples", "uniform"):
            raise ValueError(f"weights: got {self.weights!r}, expected 'examples' or 'uniform'")
        if self.sends not in ("change", "weights"):
            raise ValueError(f"sends: got {self.sends!r}, expected 'change' or 'weights'")

    def init(self, params: State) -> ServerState:
        """Return the state before the first round."""
        return ServerState(params)

    def client_hooks(self, model: nn.Module) -> Hooks:
        """Return no hook: clients train as they would alone."""
        return Hooks()

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return the global weights moved by the mean change, or replaced by the mean weights."""
        change = self.sends == "change"
        mean = RunningMean(zeros_like(server.params) if change else server.params, self.per_row)
        for update in updates:
            weight = update.examples if self.weights == "examples" else 1
            mean.add(update.delta, weight, update.touched_rows)
        params = add(server.params, mean.result()) if change else mean.result()
        return replace(server, params=params, round=server.round + 1)


@dataclass(frozen=True)
class FedProx(WeightedMean):
    """FedAvg whose clients are held near the global weights by (mu/2)·‖w - w_global‖².

    Li et al. 2020, arXiv:1812.06127, equation 2.
    """

    mu: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not self.mu >= 0:
            raise ValueError(f"mu: got {self.mu!r}, expected a number not below 0")

    def client_hooks(self, model: nn.Module) -> Hooks:
        """Return the hook that adds the proximal term to the loss."""
        start = [parameter.detach().clone() for parameter in model.parameters()]

        def add_pull(model: nn.Module, loss):
            pairs = zip(model.parameters(), start, strict=True)
            return loss + self.mu / 2 * sum(((now - then) ** 2).sum() for now, then in pairs)

        return Hooks(loss=add_pull)


def fedavg(sends: Literal["change", "weights"] = "change") -> WeightedMean:
    """Return FedAvg: the mean of the clients, weighted by their numbers of reviews."""
    return WeightedMean(sends=sends)


def uniform() -> WeightedMean:
    """Return the plain mean: a client with ten reviews counts as much as one with a thousand."""
    return WeightedMean(weights="uniform")


def rowwise() -> WeightedMean:
    """Return FedAvg with each embedding row averaged over the clients that touched it."""
    return WeightedMean(per_row=True)


def fedprox(mu: float) -> FedProx:
    """Return FedProx with proximal weight `mu`, not negative; 0 is FedAvg."""
    return FedProx(mu=mu)
