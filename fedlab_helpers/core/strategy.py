"""What a strategy is: how clients train, how their updates become one change, what it does.

A strategy is a small frozen value of three parts that combine freely: what its class changes in
local training (`begin`, `report`), `combine` (many updates to one change) and `step` (one change
to new global weights).
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from torch import nn

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import State, add, to_device, zeros_like
from fedlab_helpers.core.training import Hooks, LocalConfig
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round.

    Args:
        params: the global weights, on the CPU.
        round: rounds aggregated so far.
        clients: how many clients there are in all.
        memory: what the strategy remembers beside the weights, by its name for it: momentum,
            a control variate, …
    """

    params: State
    round: int = 0
    clients: int = 1
    memory: dict[str, State] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LocalRun:
    """One client's part in a round, as a strategy sees it before the local training.

    Args:
        model: holds the received weights, and the client's own private ones.
        weights: the received ones, on the CPU; of an embedding perhaps the touched rows only.
        extra: what the server sent beside them, on the CPU.
        data: the client's reviews, with ids that fit the model.
        config: how it will train.
        kept: what `report` kept for this client in its last accepted round, on the CPU; else {}.
        loss: of the received weights on the client's reviews, in nats, for a strategy that asks.
        seed: of this client in this round, for a strategy that trains a second model.
        stop: looked at between batches.
        steps: that it will take, where it does not finish its work; None: all.
    """

    model: nn.Module
    weights: State
    extra: State
    data: EncodedReviews
    config: LocalConfig
    kept: State
    loss: float | None = None
    seed: int = 0
    stop: threading.Event | None = None
    steps: int | None = None

    def on_device(self, tensors: State) -> State:
        """Return the tensors where the model is."""
        return to_device(tensors, next(self.model.parameters()).device)


class Combine(Protocol):
    """Makes one change out of many updates; a frozen value, too."""

    per_row: bool  # whether it needs to know which rows a client touched

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the combined change.

        Args:
            base: what a row counts as that a client did not touch, and what gives names, shapes
                and dtypes: zeros, or the global weights where clients send whole weights.
            updates: in cohort order, at least one; taken one at a time where that is possible.
        """


class Step(Protocol):
    """Moves the global weights by a combined change; a frozen value, too."""

    def __call__(self, server: ServerState, change: State) -> ServerState:
        """Return the state with new weights and memory; the round is counted elsewhere."""


@dataclass(frozen=True)
class Add:
    """Adds the change to the global weights, `lr` times: plain SGD of the server, if lr is not 1.

    Reddi et al. 2021, arXiv:2003.00295, Algorithm 1 with SGD as the server's optimiser.
    """

    lr: float = 1.0

    def __post_init__(self):
        require_positive(lr=self.lr)

    def __call__(self, server: ServerState, change: State) -> ServerState:
        """Return the state with the change added."""
        return replace(server, params=add(server.params, change, self.lr))


@dataclass(frozen=True)
class Strategy:
    """A way to make one model out of many updates; on its own, clients train as they would alone.

    Args:
        combine: many updates to one change.
        step: one change to new weights.
        sends: clients send their change, or their whole weights; those are then combined into
            the new global weights, without a step.
    """

    combine: Combine
    step: Step = field(default_factory=Add)
    sends: Literal["change", "weights"] = "change"

    dense = False  # True: clients train and send every embedding row, not the touched ones only
    settles = False  # True: what a client keeps depends on what arrived of its update
    asks_loss = False  # True: each client first evaluates the received weights on its reviews

    def __post_init__(self):
        if self.sends not in ("change", "weights"):
            raise ValueError(f"sends: got {self.sends!r}, expected 'change' or 'weights'")
        if self.sends == "weights" and self.step != Add():
            raise ValueError(f"step: got {self.step!r}, but whole weights leave no step to take")

    def init(self, params: State, clients: int = 1) -> ServerState:
        """Return the state before the first round, of a run with so many clients."""
        return ServerState(params, clients=clients)

    def broadcast(self, server: ServerState) -> State:
        """Return what the server sends to each client beside the weights."""
        return {}

    def begin(self, turn: LocalRun) -> Hooks:
        """Return what changes inside one client's local training."""
        return Hooks()

    def report(self, turn: LocalRun, update: Update) -> tuple[State, State]:
        """Return what a client sends beside its change, and what it keeps, after its training."""
        return {}, {}

    def settle(self, memory: State, trained: Update, arrived: Update) -> State:
        """Return what a client keeps, now that it knows what arrives, where the strategy `settles`.

        Args:
            memory: what `report` would keep.
            trained: the update that `report` saw.
            arrived: what transforms and codec left of it, whole, as the server will decode it.
        """
        return memory

    def extra_like(self, params: State) -> State:
        """Return tensors of the shapes that `report` sends; an update with others is refused."""
        return {}

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return the state after a round; `updates` come in cohort order, at least one."""
        if self.sends == "weights":
            moved = replace(server, params=self.combine(server.params, updates))
        else:
            moved = self.step(server, self.combine(zeros_like(server.params), updates))
        return replace(moved, round=server.round + 1)


def require_cohort(combine: Combine, size: int) -> None:
    """Raise a ValueError if a combination says that it cannot work with so many clients."""
    if check := getattr(combine, "require_cohort", None):
        check(size)


def require_positive(**values: float) -> None:
    """Raise a ValueError that names the first value that is not a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: got {value!r}, expected a finite number above 0")


def require_share(**values: float) -> None:
    """Raise a ValueError that names the first value that is not in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: got {value!r}, expected a number in [0, 1)")
