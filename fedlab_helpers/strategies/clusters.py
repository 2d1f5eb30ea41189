"""Clustered federation: several global models, and each client trains the one that fits it best."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from threading import Event

import torch
from torch import nn

from fedlab_helpers.core import compute, rows, state, wire
from fedlab_helpers.core.client import Clients, everything
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import NoUpdateLeft, RoundBooks, RoundRecord
from fedlab_helpers.core.messages import ClientState, Codec, Received, Request, Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run, sample_cohort, shared_weights
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Mean, ServerState, Strategy, require_cohort
from fedlab_helpers.core.training import Stopped, evaluate


def ifca_rounds(
    models: Sequence[nn.Module],
    clients: Sequence[Examples],
    strategy: Strategy,
    plan: Plan,
    *,
    codec: Codec | None = None,
    chosen: dict[int, int] | None = None,
    stop: Event | None = None,
) -> Iterator[RoundRecord]:
    """Train several models with IFCA, and yield a record after each round.

    Ghosh et al. 2020, arXiv:2006.04088, Algorithm 1: the server sends all models; each client of
    the cohort trains the one whose loss on its own training reviews is lowest, and sends that
    change with the model's number; the server aggregates for each model by itself. With one model
    it is `rounds`. A record's metrics say how many clients took each model.

    Args:
        models: of one architecture, called as `model(tokens, lengths)`; changed in place. They
            must differ, or every client takes the first.
        clients: the reviews of each client.
        strategy: what the server does with the updates of one model.
        plan: rounds, cohort, local training, seed; no pace.
        codec: how updates become bytes; None: `wire.touched_rows()`.
        chosen: client -> the model it took last; changed in place.
        stop: once set, training ends between two batches, and the unfinished round is dropped.

    Raises:
        ValueError: the arguments do not fit each other.
        NoUpdateLeft: no client of a round sent an update that could be used.
    """
    if not models:
        raise ValueError("models: got none, expected at least one")
    require_cohort(strategy.combine, 1)  # all that a model may get in a round
    workers = Clients(models[0], clients, strategy, plan, codec, stop=stop)
    servers, buffers = [], []
    for model in models:
        weights, beside = shared_weights(model, everything)
        servers.append(strategy.init(weights, len(clients)))
        buffers.append(beside)
    run = _Clusters(models, workers, strategy, plan, servers, buffers)
    return run.records({} if chosen is None else chosen)


def best_model(models: Sequence[nn.Module], data: Examples) -> int:
    """Return the place of the model with the lowest loss on these reviews, the first of equals."""
    losses = [evaluate(model, data).loss for model in models]
    return losses.index(min(losses))


@dataclass(eq=False)
class _Clusters:
    """What goes from round to round, for each model."""

    models: Sequence[nn.Module]
    workers: Clients
    strategy: Strategy
    plan: Plan
    servers: list[ServerState]
    buffers: list[State]

    def records(self, chosen: dict[int, int]) -> Iterator[RoundRecord]:
        """Yield a record after each round."""
        states: list[dict[int, ClientState]] = [{} for _ in self.servers]  # a memory for each
        for number in range(1, self.plan.rounds + 1):
            cohort = sample_cohort(self.plan, number, self.workers.size)
            with compute.intra_op_threads(1):  # the same choice on a machine with more cores
                picks = {c: best_model(self.models, self.workers.data[c]) for c in cohort}
            try:
                books = [
                    self._train_one(number, place, picks, states[place])
                    for place in range(len(self.servers))
                ]
            except Stopped:
                return
            if not any(book.losses for book in books):
                why = books[0].left_out
                raise NoUpdateLeft(f"round {number}: every client was left out: {why}")
            for model, server, buffers in zip(self.models, self.servers, self.buffers, strict=True):
                model.load_state_dict({**server.params, **buffers})
            chosen.update(picks)
            yield _record(cohort, books)

    def _train_one(
        self, number: int, place: int, picks: dict[int, int], states: dict[int, ClientState]
    ) -> RoundBooks:
        """Send one model to the whole cohort, and aggregate what those send back who took it."""
        server, buffers, strategy = self.servers[place], self.buffers[place], self.strategy
        takers = tuple(client for client, pick in picks.items() if pick == place)
        extra_like = strategy.extra_like(server.params)
        books = RoundBooks(number, takers, self.workers.codec, server.params, extra_like, buffers)
        payloads = wire.encode_parts(Received(server.params, strategy.broadcast(server), buffers))
        books.bytes_down = sum(map(len, payloads)) * len(picks)
        received = wire.decode_parts(payloads)
        requests = (Request(number, client, received) for client in takers)
        # Where nobody took it, or nobody's update can be used, it stays as it is.
        with closing(self.workers.answers(requests, states)) as replies, suppress(NoUpdateLeft):
            self.servers[place] = strategy.aggregate(server, books.accept(replies))
            self.buffers[place] = books.mean_buffers()
        states.update(books.kept)
        return books


def _record(cohort: tuple[int, ...], books: Sequence[RoundBooks]) -> RoundRecord:
    """Return the books of all models as one record."""
    records = [book.record({}) for book in books]
    return RoundRecord(
        records[0].round,
        cohort,
        sum(record.examples for record in records),
        sum(record.steps for record in records),
        {c: loss for record in records for c, loss in sorted(record.client_losses.items())},
        {c: why for record in records for c, why in record.left_out.items()},
        sum(record.bytes_down for record in records),
        sum(record.bytes_up for record in records),
        records[0].seconds,
        {f"model {place}": len(record.cohort) for place, record in enumerate(records)},
    )


@dataclass(frozen=True, eq=False)
class _Collecting(Strategy):
    """A strategy that keeps every change, whole, beside what it does with them."""

    seen: list[Update] = field(default_factory=list)

    def aggregate(self, server: ServerState, updates: Iterable[Update]) -> ServerState:
        """Return the state after a round."""
        self.seen[:] = [rows.make_whole(update, server.params) for update in updates]
        return super().aggregate(server, self.seen)


def unlike_starts(
    model: nn.Module,
    clients: Sequence[Examples],
    plan: Plan,
    count: int,
    stop: Event | None = None,
) -> tuple[list[State], RoundRecord]:
    """Return weights to begin several models with: those of clients that are least alike.

    Every client trains once from the model's weights, for one round of the plan's local training.
    The two whose changes have the smallest cosine are taken, then again and again the one that is
    farthest from all taken (the seeding of k-means by farthest first: Gonzalez 1985,
    doi:10.1016/0304-3975(85)90224-5).

    Args:
        model: the common start; not changed.
        clients: the reviews of each client.
        plan: local training and seed.
        count: how many, from 1 to the number of clients.
        stop: looked at between batches.

    Returns:
        The weights, and the record of that round, for its bytes.

    Raises:
        Stopped: `stop` was set.
        ValueError: `count` is out of range.
    """
    if not 1 <= count <= len(clients):
        raise ValueError(f"count: got {count!r}, expected 1 to {len(clients)}, the clients")
    before, collecting = state.of_model(model), _Collecting(Mean())
    once = replace(plan, rounds=1, clients_per_round=None)
    records = run(copy.deepcopy(model), clients, collecting, once, stop=stop)
    if not records:
        raise Stopped
    changes = [update.delta for update in collecting.seen]
    flat = torch.stack([state.flatten(change) for change in changes])
    flat /= flat.norm(dim=1, keepdim=True)
    alike = flat @ flat.T
    taken = [int(alike.min(dim=1).values.argmin())]  # it has the most unlike partner of all
    while len(taken) < count:
        taken.append(int(alike[:, taken].max(dim=1).values.argmin()))
    return [state.add(before, changes[place]) for place in taken], records[0]
