"""Strategies that hold clients together which would each drift to an optimum of their own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import is_number, require, require_positive
from fedlab_helpers.core.state import RunningMean, State, add, subtract, zeros_like
from fedlab_helpers.core.strategy import Combine, LocalRun, Mean, ServerState, Strategy
from fedlab_helpers.core.training import Hooks
from fedlab_helpers.strategies.labels import class_shares, require_classes
from fedlab_helpers.strategies.means import UNIFORM
from fedlab_helpers.strategies.registry import registered


@dataclass(frozen=True)
class FedProx(Strategy):
    """FedAvg whose clients are held near the global weights by (mu/2)·‖w - w_global‖².

    Li et al. 2020, arXiv:1812.06127, equation 2.

    Under Adam even a small mu holds an embedding hard: in a batch without a word, the pull is all
    the gradient that its row has, and Adam makes a step of full size of any gradient.
    """

    mu: float = 1e-4

    def __post_init__(self):
        super().__post_init__()
        require(is_number(self.mu, 0), "mu", self.mu, "a finite number not below 0")

    def begin(self, run: LocalRun) -> Hooks:
        start = run.on_device(run.weights)

        def add_pull(model: nn.Module, loss: Tensor) -> Tensor:
            return loss + self.mu / 2 * _squared_distance(model, start)

        return Hooks(loss=add_pull)


@dataclass(frozen=True)
class Calibrated(Strategy):
    """FedAvg whose clients do not learn how often each label occurs with them.

    The logits that a client's loss is taken of are raised by tau times the log of the client's
    own share of each label (a count of 1 added to each): what its labels alone tell is given to
    it, and only what tells them apart is left to learn (logit adjustment: Menon et al. 2021,
    arXiv:2007.07314, equation 10; among clients, with another calibration: Zhang et al. 2022,
    arXiv:2209.00189). With tau 0 it is FedAvg.
    """

    tau: float = 1.5

    def __post_init__(self):
        super().__post_init__()
        require(is_number(self.tau, 0), "tau", self.tau, "a finite number not below 0")

    def require_objective(self, objective: Objective) -> None:
        require_classes("calibrated", objective)

    def begin(self, run: LocalRun) -> Hooks:
        self.require_objective(run.data.objective)
        targets, tau = run.data.targets, self.tau

        def calibrate(logits: Tensor) -> Tensor:
            return logits + tau * class_shares(targets, logits.shape[-1]).log()

        return Hooks(logits=calibrate)


@dataclass(frozen=True)
class Scaffold(Strategy):
    """SCAFFOLD: each gradient is corrected by how the client's gradients differ from all clients'.

    Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1 with option II. A client adds c - c_i to
    its gradients; after K steps at rate η that moved it from x to y it sets
    c_i+ = c_i - c + (x - y) / (K η), sends c_i+ - c_i and keeps c_i+. The server moves c by the sum
    of what it received over the number of all clients, so that c stays the mean of all c_i.

    That is a theory of plain SGD without clipping. Under Adam, or where clipping is active,
    (x - y) / (K η) is a mean of steps, no longer of gradients, and the correction has another
    scale than what it is added to. The variates also move rows of words that a client never saw,
    so every embedding row is trained and sent, and each message is twice as long, both ways.
    """

    combine: Combine = UNIFORM

    changes_only = True
    dense = True
    settles = True
    linear = True

    def __post_init__(self):
        super().__post_init__()
        _require_mean(self.combine)

    def init(self, params: State, clients: int = 1) -> ServerState:
        return ServerState(params, clients=clients, memory={"variate": _variate(params)})

    def broadcast(self, server: ServerState) -> State:
        return server.memory["variate"]

    def begin(self, run: LocalRun) -> Hooks:
        own = run.kept or zeros_like(run.extra)
        correction = run.on_device(subtract(run.extra, own))

        def correct(model: nn.Module) -> None:
            for name, parameter in model.named_parameters():
                if name in correction and parameter.grad is not None:
                    parameter.grad += correction[name]

        return Hooks(gradients=correct)

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        """Return c_i+ - c_i to send, and c_i+ to keep."""
        own = run.kept or zeros_like(run.extra)
        scale = max(1, update.steps) * run.config.lr
        new = {n: own[n] - c - update.delta[n] / scale for n, c in run.extra.items()}
        return subtract(new, own), new

    def settle(self, memory: State, trained: Update, arrived: Update) -> State:
        """Return c_i as the server has moved c by it, so that c stays the mean of all c_i."""
        return add(memory, subtract(arrived.extra, trained.extra))

    def extra_like(self, params: State) -> State:
        return _variate(params)

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        variate = server.memory["variate"]
        mean = RunningMean(variate)
        moved = super().aggregate(server, _adding(updates, mean, lambda update: update.extra))
        variate = add(variate, mean.result(), mean.weight / server.clients)
        return replace(moved, memory=moved.memory | {"variate": variate})


@dataclass(frozen=True)
class FedDyn(Strategy):
    """FedDyn: each client's loss is bent so that its optimum comes to be that of all clients.

    Acar et al. 2021, arXiv:2111.04263, Algorithm 1. From the received weights θ_t a client
    minimises L_k(θ) - <g_k, θ> + (α/2)‖θ - θ_t‖² and then keeps g_k - α (θ_k - θ_t). The server
    subtracts from h the α/m-fold of the sum of the changes, m being the number of all clients, and
    sets its weights to the mean of the θ_k minus h/α. Clients keep as much as the model has
    weights, and every embedding row is trained and sent.
    """

    combine: Combine = UNIFORM
    alpha: float = 1e-3

    changes_only = True
    dense = True
    settles = True
    linear = True

    def __post_init__(self):
        super().__post_init__()
        _require_mean(self.combine)
        require_positive(alpha=self.alpha)

    def init(self, params: State, clients: int = 1) -> ServerState:
        return ServerState(params, clients=clients, memory={"h": _variate(params)})

    def begin(self, run: LocalRun) -> Hooks:
        start, linear = run.on_device(run.weights), run.on_device(run.kept)

        def bend(model: nn.Module, loss: Tensor) -> Tensor:
            pairs = [(linear[n], p) for n, p in model.named_parameters() if n in linear]
            pull = self.alpha / 2 * _squared_distance(model, start)
            return loss + pull - sum((gradient * now).sum() for gradient, now in pairs)

        return Hooks(loss=bend)

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        change = {n: d for n, d in update.delta.items() if d.is_floating_point()}
        return {}, add(run.kept or zeros_like(change), change, -self.alpha)

    def settle(self, memory: State, trained: Update, arrived: Update) -> State:
        """Return g_k as the server has moved h by it."""
        lost = {name: arrived.delta[name] - trained.delta[name] for name in memory}
        return add(memory, lost, -self.alpha)

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        h = server.memory["h"]
        mean = RunningMean(h)
        seen = _adding(updates, mean, lambda update: {name: update.delta[name] for name in h})
        moved = super().aggregate(server, seen)
        h = add(h, mean.result(), -self.alpha * mean.weight / server.clients)
        params = {n: p - h[n] / self.alpha if n in h else p for n, p in moved.params.items()}
        return replace(moved, params=params, memory=moved.memory | {"h": h})


def _require_mean(combine: Combine) -> None:
    plain = "a Mean: what the server remembers moves by a plain mean, in which a liar counts"
    require(isinstance(combine, Mean), "combine", combine, plain)


def _adding(
    updates: Iterable[Update], mean: RunningMean, part: Callable[[Update], State]
) -> Iterator[Update]:
    """Hand updates on, and add a part of each to a plain mean as they go by."""
    for update in updates:
        mean.add(part(update), 1)
        yield update


def _squared_distance(model: nn.Module, start: State) -> Tensor:
    """Return ‖w - w_start‖² over the parameters that are shared."""
    pairs = [(now, start[name]) for name, now in model.named_parameters() if name in start]
    return sum(((now - then) ** 2).sum() for now, then in pairs)


def _variate(params: State) -> State:
    return {n: torch.zeros_like(p) for n, p in params.items() if p.is_floating_point()}


@registered(mu=(1e-5, 10.0))
def fedprox(mu: float = FedProx.mu) -> FedProx:
    """FedProx: clients are held near the global weights by (mu/2)·‖w - w_global‖²; 0 is FedAvg."""
    return FedProx(mu=mu)


@registered(tau=(0.0, 2.0))
def calibrated(tau: float = Calibrated.tau) -> Calibrated:
    """Clients do not learn how often each label occurs with them; with tau 0 it is FedAvg."""
    return Calibrated(tau=tau)


@registered(for_sgd=True)
def scaffold() -> Scaffold:
    """SCAFFOLD: gradients are corrected by how the client's differ from all clients'."""
    return Scaffold()


@registered(server_rate=False, alpha=(1e-4, 10.0))
def feddyn(alpha: float = FedDyn.alpha) -> FedDyn:
    """FedDyn: each client's loss is bent until its optimum is that of all."""
    return FedDyn(alpha=alpha)
