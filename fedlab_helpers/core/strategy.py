"""What a strategy is: how clients train, how their updates become one change, what it does.

A strategy is a small frozen value of three parts that combine freely: what its class changes in
local training (`begin`, `report`), `combine` (updates to one change) and `step` (that to weights).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Literal, Protocol

from torch import nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import require, require_positive
from fedlab_helpers.core.state import RunningMean, State, add, to_device, zeros_like
from fedlab_helpers.core.training import Hooks, LocalConfig


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round: the global weights on the CPU, how many rounds
    it aggregated, how many clients there are in all, and what the strategy remembers beside the
    weights, by its name for it: momentum, a control variate, …"""

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
        data: the client's examples, with ids that fit the model.
        config: how it will train.
        kept: what `report` kept for this client in its last accepted round, on the CPU; else {}.
        loss: of the received weights on the client's examples, for a strategy that asks.
        seed: of this client in this round, for a strategy that trains a second model.
        stop: looked at between batches.
        steps: that it will take, where it does not finish its work; None: all.
    """

    model: nn.Module
    weights: State
    extra: State
    data: Examples
    config: LocalConfig
    kept: State
    loss: float | None = None
    seed: int = 0
    stop: Event | None = None
    steps: int | None = None

    def on_device(self, tensors: State) -> State:
        """Return the tensors where the model is."""
        return to_device(tensors, next(self.model.parameters()).device)


class Combine(Protocol):
    """Makes one change out of many updates; a frozen value, too.

    It may also have: `least_cohort`, of how many clients it makes sense, 1 if it does not say; 0:
    of none, too. `changes_only`: of whole weights it makes none. `dense`: clients train and send
    every row. `linear`: it needs no more than a mean of the changes by its `weights`, as in `Mean`:
    a secure sum is enough. `secret`: what it draws is seeded by the system, so that no run repeats.
    `in_round(run, number)`: the combination for this round of a `RoundLoop`, asked for before
    anybody trains, too, to raise a ValueError where it does not fit. `told()`: for its record.
    """

    per_row: bool  # whether it needs to know which rows a client touched

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the combined change of the updates, which come in cohort order, at least one, and
        once: they can be gone through a single time. One that names `touched_rows` holds these rows
        only, as `state.RunningMean` takes them and `rows.make_whole` writes them out.

        `base` is what a row counts as that a client did not touch, and gives names, shapes and
        dtypes: zeros, or the global weights where clients send whole weights.
        """


class Step(Protocol):
    """Moves the global weights by a combined change; a frozen value, too."""

    def __call__(self, server: ServerState, change: State) -> ServerState:
        """Return the state with new weights and memory; the round is counted elsewhere."""


@dataclass(frozen=True)
class Add:
    """Adds the change, `lr` times: plain SGD (Reddi et al. 2021, arXiv:2003.00295, Algorithm 1)."""

    lr: float = 1.0

    def __post_init__(self):
        require_positive(lr=self.lr)

    def __call__(self, server: ServerState, change: State) -> ServerState:
        """Return the state with the change added."""
        return replace(server, params=add(server.params, change, self.lr))


@dataclass(frozen=True)
class Mean:
    """The weighted mean of the clients' changes.

    Args:
        weights: "examples": n_k / n, as in FedAvg (McMahan et al. 2017, arXiv:1602.05629,
            Algorithm 1); "uniform": each client counts the same.
        per_row: divide each embedding row by the weight of the clients whose examples contain
            that word, not by everybody's: a rare word's row is then not diluted by the zeros of
            clients that never saw it. An update that is sent whole counts as touching every row.
    """

    weights: Literal["examples", "uniform"] = "examples"
    per_row: bool = False

    def __post_init__(self):
        fine = self.weights in ("examples", "uniform")
        require(fine, "weights", self.weights, "'examples' or 'uniform'")

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        return self.over(base, updates).result()

    def over(self, base: State, updates: Iterable[Update]) -> RunningMean:
        """Return the mean of the updates, to be asked for whole or in rows."""
        mean = RunningMean(base, self.per_row)
        for update in updates:
            weight = update.examples if self.weights == "examples" else 1
            mean.add(update.delta, weight, update.touched_rows)
        return mean


@dataclass(frozen=True)
class Strategy:
    """A way to make one model out of many updates; on its own, clients train as they would alone.

    Args:
        combine: many updates to one change.
        step: one change to new weights.
        sends: clients send their change, or their whole weights; those are then combined into
            the new global weights, without a step.
    """

    combine: Combine = field(default_factory=Mean)
    step: Step = field(default_factory=Add)
    sends: Literal["change", "weights"] = "change"

    settles = False  # True: what a client keeps depends on what arrived of its update
    asks_loss = False  # True: each client first evaluates the received weights on its examples

    def __post_init__(self):
        require(self.sends in ("change", "weights"), "sends", self.sends, "'change' or 'weights'")
        fine = self.sends == "change" or self.step == Add()
        require(fine, "step", self.step, "Add(): whole weights leave no step to take")

    @property
    def dense(self) -> bool:
        """Whether clients train and send every embedding row, not the touched ones only."""
        return getattr(self.combine, "dense", False)

    def init(self, params: State, clients: int = 1) -> ServerState:
        """Return the state before the first round, of a run with so many clients."""
        return ServerState(params, clients=clients)

    def require_objective(self, objective: Objective) -> None:
        """Raise a ValueError if the strategy has no meaning for what the clients are asked."""

    def broadcast(self, server: ServerState) -> State:
        """Return what the server sends to each client beside the weights."""
        return {}

    def begin(self, run: LocalRun) -> Hooks:
        """Return what changes inside one client's local training."""
        return Hooks()

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        """Return what a client sends beside its change, and what it keeps, after its training."""
        return {}, {}

    def settle(self, memory: State, trained: Update, arrived: Update) -> State:
        """Return what a client keeps, where the strategy `settles`: `memory` is what `report` would
        keep of the `trained` update; `arrived` is what transforms and codec left of that, whole."""
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

    def consume(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return what `aggregate` does, of a state that nobody else holds and that is used up: of a
        mean that is added and came in rows of a tensor, only these rows of the weights change."""
        plain = (type(self).aggregate, type(self.combine), type(self.step), self.sends)
        if server.memory or plain != (Strategy.aggregate, Mean, Add, "change"):
            return self.aggregate(server, updates)
        params = server.params
        zeros = {name: t.new_zeros(()).expand_as(t) for name, t in params.items()}
        change, rows = self.combine.over(zeros, updates).by_rows()
        few = params | {name: params[name][at] for name, at in rows.items()}
        moved = self.step(replace(server, params=few), change).params
        moved |= {n: params[n].index_copy_(0, at, moved[n]) for n, at in rows.items()}
        return replace(server, params=moved, round=server.round + 1)

    def told(self, server: ServerState) -> dict[str, float]:
        """Return what the record of a round that ended so is to say beside what was measured."""
        return getattr(self.combine, "told", dict)()


def least_cohort(combine: Combine) -> int:
    """Return the least number of clients that a combination says it needs."""
    return getattr(combine, "least_cohort", 1)


def require_cohort(combine: Combine, size: int) -> None:
    """Raise a ValueError if a combination says by its `least_cohort` that so few are too few."""
    least = least_cohort(combine)
    require(size >= least, "cohort", size, f"at least {least} clients for {combine!r}")
