"""What the server does with a combined change: momentum and adaptive server optimisers.

The change is taken as the negative of a gradient: Reddi et al. 2021, arXiv:2003.00295,
Algorithm 2. As there, no bias is corrected.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from fedlab_helpers.core.require import require, require_positive, require_share
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import ServerState, Strategy
from fedlab_helpers.strategies.registry import registered


@dataclass(frozen=True)
class Momentum:
    """FedAvgM: m ← β m + Δ, w ← w + lr m (Hsu et al. 2019, arXiv:1909.06335, section 4.3)."""

    lr: float = 1.0
    beta: float = 0.5

    def __post_init__(self):
        require_positive(lr=self.lr)
        require_share(beta=self.beta)

    def __call__(self, server: ServerState, change: State) -> ServerState:
        momentum = {name: delta for name, delta in change.items() if delta.is_floating_point()}
        for name, before in server.memory.get("momentum", {}).items():
            momentum[name] = self.beta * before + momentum[name]
        return _moved(server, change | momentum, {"momentum": momentum}, self.lr)


@dataclass(frozen=True)
class Adaptive:
    """FedAdagrad, FedAdam and FedYogi: each weight has a step size of its own.

    m ← β1 m + (1 - β1) Δ; v by the rule below; w ← w + lr m / (sqrt(v) + τ); v starts at τ².

    Args:
        rule: "adagrad": v + Δ²; "adam": β2 v + (1 - β2) Δ²; "yogi": v - (1 - β2) Δ² sign(v - Δ²).
        lr: server learning rate.
        beta1: of the momentum; the paper has none with "adagrad" (0).
        beta2: of the squares; "adagrad" has none.
        tau: adaptivity; the smaller, the more equal the steps of all weights become.
    """

    rule: Literal["adagrad", "adam", "yogi"]
    lr: float
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self):
        require(self.rule in _SQUARES, "rule", self.rule, f"one of {sorted(_SQUARES)}")
        require_positive(lr=self.lr, tau=self.tau)
        require_share(beta1=self.beta1, beta2=self.beta2)

    def __call__(self, server: ServerState, change: State) -> ServerState:
        floats = {name: delta for name, delta in change.items() if delta.is_floating_point()}
        before = server.memory or {
            "momentum": {n: torch.zeros_like(d) for n, d in floats.items()},
            "squares": {n: torch.full_like(d, self.tau**2) for n, d in floats.items()},
        }
        momentum, squares, steps = {}, {}, dict(change)
        for name, delta in floats.items():
            m, v = before["momentum"][name], before["squares"][name]
            momentum[name] = self.beta1 * m + (1 - self.beta1) * delta
            squares[name] = _SQUARES[self.rule](v, delta.square(), self.beta2)
            steps[name] = momentum[name] / (squares[name].sqrt() + self.tau)
        return _moved(server, steps, {"momentum": momentum, "squares": squares}, self.lr)


_SQUARES = {
    "adagrad": lambda v, square, beta2: v + square,
    "adam": lambda v, square, beta2: beta2 * v + (1 - beta2) * square,
    "yogi": lambda v, square, beta2: v - (1 - beta2) * square * torch.sign(v - square),
}


def _moved(server: ServerState, steps: State, memory: dict[str, State], lr: float) -> ServerState:
    """Return the state after these steps, `lr` times; a counter follows the mean as it is."""
    params = {
        name: param + (lr * steps[name] if param.is_floating_point() else steps[name])
        for name, param in server.params.items()
    }
    return replace(server, params=params, memory=server.memory | memory)


@registered(beta=(0.0, 0.99))
def fedavgm(lr: float = Momentum.lr, beta: float = Momentum.beta) -> Strategy:
    """FedAvg with momentum on the server; with lr 1 and beta 0 it is FedAvg."""
    return Strategy(step=Momentum(lr, beta))


_TAU = (1e-5, 1e-1)


@registered(tau=_TAU)
def fedadagrad(lr: float = 0.1, tau: float = Adaptive.tau) -> Strategy:
    """Adagrad on the server: each weight's steps shrink as its changes add up; no momentum."""
    return Strategy(step=Adaptive("adagrad", lr, beta1=0.0, tau=tau))


@registered(tau=_TAU)
def fedadam(lr: float = 0.03, tau: float = Adaptive.tau) -> Strategy:
    """Adam on the server: each weight has a step size of its own."""
    return Strategy(step=Adaptive("adam", lr, tau=tau))


@registered(tau=_TAU)
def fedyogi(lr: float = 0.03, tau: float = Adaptive.tau) -> Strategy:
    """Yogi on the server: as Adam, but step sizes grow back slowly."""
    return Strategy(step=Adaptive("yogi", lr, tau=tau))
