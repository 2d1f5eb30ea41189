"""The round loop of federated learning."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import nn

from fedlab_helpers.core import compute, state, wire
from fedlab_helpers.core.checkpoint import Checkpoint, Snapshot
from fedlab_helpers.core.client import Clients, everything
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import History, RoundBooks, RoundRecord
from fedlab_helpers.core.identity import digest, known_as
from fedlab_helpers.core.messages import ClientState, Codec, Transform, Update, Workers
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy, least_cohort, require_cohort
from fedlab_helpers.core.training import Stopped, evaluate


def rounds(
    model: nn.Module,
    clients: Sequence[Examples],
    strategy: Strategy,
    plan: Plan,
    *,
    test: Examples | None = None,
    codec: Codec | None = None,
    downlink: Any | None = None,
    transforms: Sequence[Transform] = (),
    secure: Any | None = None,
    shared: Callable[[str], bool] = everything,
    client_states: dict[int, ClientState] | None = None,
    client_devices: Sequence[str | torch.device] | None = None,
    stop: Event | None = None,
    checkpoint: str | Path | None = None,
) -> Iterator[RoundRecord]:
    """Train a model over clients that keep their data, and yield a record after each round.

    After each record the model holds the global weights (with a `downlink`, those that clients
    will hold once they are up to date); it is evaluated where it lies.
    For a progress bar: `for record in tqdm(rounds(…), total=plan.rounds)`.

    Args:
        model: called as `model(*batch.inputs)`; changed in place.
        clients: the examples of each client. A sequence that says its `objective`, of all of them,
            as `partition.Dealt` does, is not gone through: clients may be many.
        strategy: what the server does with the updates.
        plan: rounds, cohort, local training, seed.
        test: examples to evaluate the global model on, refused where parts of it are private;
            None: no metrics.
        codec: how updates become bytes; None: `wire.touched_rows()`.
        downlink: how the weights' changes are sent to clients, `compression.Changes` say (its
            `begin` makes a `wire.Downlink`); None: the weights, whole.
        transforms: what each update passes, in order, before it is encoded.
        secure: how updates are summed so that the server sees none, `privacy.secure.SecureSum` say
            (its `over` makes workers of these clients); None: it sees each.
        shared: whether the parameter of this name is sent and averaged; the others stay with
            their client, under "private" in its state.
        client_states: what clients keep between rounds, by client; changed in place.
        client_devices: devices that the clients are dealt to in turn; None: the model's.
        stop: once set, training ends between two batches, and the unfinished round is dropped.
        checkpoint: a folder; the run is written there after each round. Where it holds rounds of
            this run already, their records are yielded first, while the model holds the weights of
            the last of them, whatever it began with; and the run goes on from there.

    Raises:
        ValueError: the arguments do not fit each other.
        CheckpointError: the folder is damaged, or holds another run or more rounds than planned.
        NoUpdateLeft: no client of a round sent an update that could be used.
    """
    for name, given, kind in (("strategy", strategy, Strategy), ("plan", plan, Plan)):
        require(isinstance(given, kind), name, given, f"a {kind.__name__}")
    fine = codec is None or (hasattr(codec, "decode") and not secure)
    require(fine, "codec", codec, "one that encodes and decodes, or None, as with secure sums")
    if secure:
        secure.require_fit(strategy, *shared_weights(model, shared))
        codec = wire.dense()
    options = (codec, transforms, shared, client_devices, stop)
    workers = Clients(model, clients, strategy, plan, *options)
    workers = secure.over(workers) if secure else workers
    if test is not None:
        asked = next((data.objective for data in clients if data), test.objective)  # as all are
        require(asked == test.objective, "test: asks for", test.objective, f"as clients, {asked!r}")
    return rounds_with(workers, model, strategy, plan, test, downlink, client_states, checkpoint)


def rounds_with(
    workers: Workers,
    model: nn.Module,
    strategy: Strategy,
    plan: Plan,
    test: Examples | None = None,
    downlink: Any | None = None,
    client_states: dict[int, ClientState] | None = None,
    checkpoint: str | Path | None = None,
) -> Iterator[RoundRecord]:
    """As `rounds`, with clients wherever they are: the `workers` that answer requests are `Clients`
    in this process, or machines in a network."""
    size = len(sample_cohort(plan, 1, workers.size))
    require_cohort(strategy.combine, 1 if plan.sampling == "poisson" else size)
    run = RoundLoop(workers, model, strategy, plan, test, downlink, client_states)
    if checkpoint is None:
        return run.records()
    return Checkpoint(checkpoint, run.identity()).follow(run, plan.rounds)


@dataclass(eq=False)
class RoundLoop:
    """What goes from round to round; arguments as in `rounds_with`."""

    workers: Workers
    model: nn.Module
    strategy: Strategy
    plan: Plan
    test: Examples | None = None
    downlink: Any | None = None
    kept: dict[int, ClientState] | None = None
    books: RoundBooks | None = field(default=None, init=False)

    def __post_init__(self):
        workers, strategy, downlink = self.workers, self.strategy, self.downlink
        whole = "one with sends='change': whole weights forget what the server's changes left out"
        require(not downlink or strategy.sends == "change", "downlink: strategy", strategy, whole)
        weights, self.buffers = shared_weights(self.model, workers.shared)
        private = sorted(self.model.state_dict().keys() - weights.keys() - self.buffers.keys())
        judged = "none of a model whose private parts are each client's own: judge theirs instead"
        require(not (private and self.test), "test: private", private, judged)
        self.server = strategy.init(weights, workers.size)
        begun = weights, strategy.broadcast(self.server), workers.table
        self.link = downlink.begin(*begun) if downlink else wire.Downlink(*begun)
        self.kept = {} if self.kept is None else self.kept
        self.strategy_in(1)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of this run."""
        plan = asdict(replace(self.plan, rounds=1, workers="auto"))  # more rounds are welcome
        own = {"strategy": known_as(self.strategy), "downlink": known_as(self.downlink)}
        return {**plan, **self.workers.identity(), **own, "test": digest(self.test)}

    def records(self) -> Iterator[RoundRecord]:
        """Yield a record after each round that is left; one that is stopped is dropped."""
        for number in range(self.server.round + 1, self.plan.rounds + 1):
            try:
                self.advance(number)
            except Stopped:
                return
            self.show()
            due = number % self.plan.evaluate_every == 0 or number == self.plan.rounds
            metrics = dict(evaluate(self.model, self.test)) if due and self.test is not None else {}
            yield self.books.record(metrics)

    def advance(self, number: int) -> None:
        """Draw a cohort, and exchange with it."""
        cohort = sample_cohort(self.plan, number, self.workers.size)
        self.exchange(number, cohort, cohort)

    def strategy_in(self, number: int) -> Strategy:
        """Return the strategy as it is in this round. Raises ValueError where it does not fit."""
        strategy, fit = self.strategy, getattr(self.strategy.combine, "in_round", None)
        return replace(strategy, combine=fit(self, number)) if fit else strategy

    def exchange(self, number: int, told: Sequence[int], cohort: tuple[int, ...]) -> None:
        """Send the weights to the clients `told`, let the cohort train, average what comes back;
        of nobody there is no mean, and the weights stay."""
        server, strategy, workers = self.server, self.strategy_in(number), self.workers
        secret = any(getattr(part, "secret", False) for part in (strategy, strategy.combine))
        repeatable = workers.repeatable and not secret
        like = (server.params, strategy.extra_like(server.params), self.buffers)
        self.books = books = RoundBooks(number, cohort, workers.codec, *like, repeatable)
        received, link, books.bytes_down = self.link.deliver(told)
        if self.buffers:
            received = replace(received, buffers=self.buffers)
            books.bytes_down += wire.size(self.buffers) * len(told)
        step = strategy.aggregate if self.downlink else strategy.consume  # it holds weights, too
        # Closed at once, whatever happens: no client trains on after an error.
        with closing(self.updates(number, cohort, received)) as updates:
            if cohort or not least_cohort(strategy.combine):
                server = step(server, updates)
            else:
                server = replace(server, round=server.round + 1)
        books.told = strategy.told(server)
        rng = compute.torch_rng(self.plan.seed, "downlink", number)
        link = link.without(books.left_out)
        self.link = link.advance(server.params, strategy.broadcast(server), rng)
        self.server, self.buffers = server, books.mean_buffers()
        self.kept.update(books.kept)

    def updates(self, *asked: Any) -> Iterator[Update]:
        """Yield what can be used of what a cohort sends: round, clients, and what they received."""
        least = least_cohort(self.strategy.combine)
        return self.workers.updates(self.books, least, *asked, self.kept)

    def show(self) -> None:
        """Write the global weights into the model."""
        self.model.load_state_dict({**self.link.held, **self.buffers}, strict=False)

    def to_state(self) -> dict[str, State]:
        """Return what the server holds, by owner, for a checkpoint."""
        own = {"params": self.server.params, "buffers": self.buffers}
        memory = {f"memory.{name}": part for name, part in self.server.memory.items()}
        return {**own, **memory, "downlink": self.link.to_state()}

    def restore(self, saved: Snapshot) -> None:
        """Go to where a checkpoint was written."""
        held, number = saved.server, len(saved.records)
        # In the order of the weights, which a checkpoint does not keep.
        params = {name: held["params"][name] for name in self.server.params}
        self.buffers = {name: held["buffers"][name] for name in self.buffers}
        memory = {n.removeprefix("memory."): t for n, t in held.items() if n.startswith("memory.")}
        self.server = replace(self.server, params=params, round=number, memory=memory)
        extra = self.strategy.broadcast(self.server)
        self.link = self.link.restored(held.get("downlink", {}), params, extra, number)
        self.kept.update(saved.clients)
        self.show()


def run(
    model: nn.Module, clients: Sequence[Examples], strategy: Strategy, plan: Plan, **options: Any
) -> History:
    """Return the records of all rounds; takes what `rounds` takes. The model ends trained."""
    return History(tuple(rounds(model, clients, strategy, plan, **options)))


def sample_cohort(plan: Plan, number: int, n_clients: int) -> tuple[int, ...]:
    """Return the clients of round `number`, ascending, drawn as the plan says. Raises ValueError
    where it asks for more clients than there are."""
    size = n_clients if plan.clients_per_round is None else plan.clients_per_round
    require(1 <= size <= n_clients, "clients_per_round", size, f"1 to {n_clients}, the clients")
    rng = compute.numpy_rng(plan.seed, "cohort", number)
    if plan.sampling == "poisson":
        return tuple((rng.random(n_clients) < size / n_clients).nonzero()[0].tolist())
    return tuple(sorted(rng.choice(n_clients, size, replace=False).tolist()))


def shared_weights(model: nn.Module, shared: Callable[[str], bool]) -> tuple[State, State]:
    """Return copies, on the CPU, of the weights that the server moves, and of the buffers that it
    averages. Raises ValueError where no weight is shared."""
    held = state.clone({n: t for n, t in model.state_dict().items() if shared(n)})
    held, buffers = state.to_device(held, "cpu"), state.buffer_names(model)
    weights = {name: tensor for name, tensor in held.items() if name not in buffers}
    known = sorted(name for name, _ in model.named_parameters())
    require(bool(weights), "shared", [], f"at least one of {known}")
    return weights, {name: tensor for name, tensor in held.items() if name in buffers}
