"""Buffered asynchronous rounds: the server does not wait for the slow, on a simulated clock."""

import heapq
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from numbers import Integral
from threading import Event

from torch import nn

from fedlab_helpers.core import compute, state, wire
from fedlab_helpers.core.client import Clients, everything
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import RoundBooks, RoundRecord
from fedlab_helpers.core.messages import Codec, Received, Reply, Request, Update
from fedlab_helpers.core.plan import Plan, require_speeds
from fedlab_helpers.core.rounds import shared_weights
from fedlab_helpers.core.strategy import ServerState, Strategy, require_cohort
from fedlab_helpers.core.training import Stopped, evaluate


@dataclass(frozen=True)
class Arrival:
    """One client's update reaches the server.

    Args:
        client: whose.
        call: at which call for clients it started, from 1; no client starts twice in one.
        version: of the weights it started from: so many flushes came before.
        time: in simulated seconds from the start of the run.
    """

    client: int
    call: int
    version: int
    time: float


@dataclass(frozen=True)
class Flush:
    """One server step: the updates in the buffer, in the order they came.

    Args:
        arrivals: as many as the buffer holds.
        started: the clients that started since the flush before, from the weights it made.
    """

    arrivals: tuple[Arrival, ...]
    started: tuple[int, ...]

    @property
    def time(self) -> float:
        """When it happens: with the last arrival, in simulated seconds."""
        return self.arrivals[-1].time


def timeline(
    durations: Sequence[float], flushes: int, *, concurrency: int, buffer: int, seed: int
) -> list[Flush]:
    """Return who arrives when: known in advance, for a client's duration is.

    What happens at one instant has an order: updates arrive by client, ascending; a full buffer is
    flushed at once; only then the server calls as many new clients as have arrived, drawn
    uniformly from those not training.

    Args:
        durations: seconds that each client trains.
        flushes: how many.
        concurrency: how many clients train at any time.
        buffer: updates in a flush.
        seed: decides who is drawn. Where all durations are equal and the buffer holds `concurrency`
            updates, the clients are those of `sample_cohort`.
    """
    done, arrived, started = [], [], []
    training: list[tuple[float, int, int, int]] = []  # time of arrival, client, call, version
    time, call, free = 0.0, 0, concurrency
    while True:
        call += 1
        busy = {client for _, client, _, _ in training}
        idle = [client for client in range(len(durations)) if client not in busy]
        drawn = compute.numpy_rng(seed, "cohort", call).choice(idle, free, replace=False)
        for client in sorted(drawn.tolist()):
            heapq.heappush(training, (time + durations[client], client, call, len(done)))
            started.append(client)
        time, free = training[0][0], 0
        while training and training[0][0] == time:
            _, client, since, version = heapq.heappop(training)
            arrived.append(Arrival(client, since, version, time))
            free += 1
            if len(arrived) == buffer:
                done.append(Flush(tuple(arrived), tuple(started)))
                arrived, started = [], []
                if len(done) == flushes:
                    return done


def buffered_rounds(
    model: nn.Module,
    clients: Sequence[Examples],
    strategy: Strategy,
    plan: Plan,
    *,
    speeds: Sequence[float],
    concurrency: int,
    buffer: int,
    test: Examples | None = None,
    codec: Codec | None = None,
    stop: Event | None = None,
) -> Iterator[RoundRecord]:
    """Train with FedBuff, and yield a record after each flush of the buffer.

    Nguyen et al. 2022, arXiv:2106.06639, Algorithm 1: some clients are always training; each that
    finishes puts its change into a buffer, and another one starts from the newest weights. Once
    the buffer is full the server aggregates it. A change whose client started τ flushes ago is
    scaled by 1 / sqrt(1 + τ). With `strategies.uniform()` it is the paper's server step.

    A record's cohort are the clients in the buffer, perhaps one of them twice; bytes_down counts
    who started since the flush before. Beside the metrics come "clock", the simulated seconds
    since the start, and "staleness", the mean τ of the buffer. Who fails or drops out takes a
    place in the buffer.

    Args:
        model: called as `model(tokens, lengths)`; changed in place.
        clients: the reviews of each client.
        strategy: what the server does with the updates.
        plan: its rounds are flushes; who trains is not up to `clients_per_round` or `pace`.
        speeds: of each client, in steps a second, simulated.
        concurrency: how many clients train at any time.
        buffer: updates in a flush.
        test: reviews to evaluate the global model on; None: only clock and staleness.
        codec: how updates become bytes; None: `wire.touched_rows()`.
        stop: once set, training ends between two batches, and the unfinished flush is dropped.

    Raises:
        ValueError: the arguments do not fit each other, or clients of this strategy or codec
            keep something, or send whole weights.
        NoUpdateLeft: no update of a flush could be used.
    """
    _require_fit(strategy, plan, len(clients), speeds, concurrency, buffer, codec)
    workers = Clients(model, clients, strategy, plan, codec, stop=stop)
    durations = [
        plan.local.steps(len(data)) / speed for data, speed in zip(clients, speeds, strict=True)
    ]
    flushes = timeline(
        durations, plan.rounds, concurrency=concurrency, buffer=buffer, seed=plan.seed
    )
    require_cohort(strategy.combine, buffer)
    weights, buffers = shared_weights(model, everything)
    server = strategy.init(weights, len(clients))
    return _flushed(model, server, buffers, strategy, plan, workers, flushes, test)


def _flushed(
    model: nn.Module,
    server: ServerState,
    buffers: state.State,
    strategy: Strategy,
    plan: Plan,
    workers: Clients,
    flushes: list[Flush],
    test: Examples | None,
) -> Iterator[RoundRecord]:
    """Yield the record of each flush; versions of the weights are kept while they are needed."""
    versions: dict[int, Received] = {}
    for version, flush in enumerate(flushes):
        cohort = tuple(arrival.client for arrival in flush.arrivals)
        extra_like = strategy.extra_like(server.params)
        books = RoundBooks(version + 1, cohort, workers.codec, server.params, extra_like, buffers)
        payloads = wire.encode_parts(Received(server.params, strategy.broadcast(server), buffers))
        books.bytes_down = sum(map(len, payloads)) * len(flush.started)
        versions[version] = wire.decode_parts(payloads)
        needed = {arrival.version for later in flushes[version:] for arrival in later.arrivals}
        versions = {number: sent for number, sent in versions.items() if number in needed}
        requests = (Request(a.call, a.client, versions[a.version]) for a in flush.arrivals)
        try:
            with closing(workers.answers(requests, {})) as replies:
                server = strategy.aggregate(server, _discounted(books, flush, version, replies))
        except Stopped:
            return
        buffers = books.mean_buffers()
        model.load_state_dict({**server.params, **buffers})
        due = test is not None and plan.evaluates_after(version + 1)
        metrics = dict(evaluate(model, test)) if due else {}
        staleness = sum(version - a.version for a in flush.arrivals) / len(flush.arrivals)
        yield books.record({**metrics, "clock": flush.time, "staleness": staleness})


def _discounted(
    books: RoundBooks, flush: Flush, version: int, replies: Generator[Reply, None, None]
) -> Iterator[Update]:
    """Yield the updates that can be used, each change scaled by its staleness."""
    for arrival, reply in zip(flush.arrivals, replies, strict=True):
        if (update := books.read(reply)) is not None:
            scale = (1 + version - arrival.version) ** -0.5
            yield replace(update, delta={n: t * scale for n, t in update.delta.items()})
    books.require_update()


def _require_fit(
    strategy: Strategy,
    plan: Plan,
    n_clients: int,
    speeds: Sequence[float],
    concurrency: int,
    buffer: int,
    codec: Codec | None,
) -> None:
    if hasattr(codec, "pack"):
        raise ValueError(f"codec: got {codec!r}, but here clients keep nothing between their turns")
    keeps = strategy.dense or getattr(strategy, "keeps_model", False)
    if keeps or strategy.sends != "change":
        why = "keep something between their turns" if keeps else "send whole weights"
        raise ValueError(
            f"strategy: clients of {type(strategy).__name__} {why}, expected one whose clients "
            "send only how the weights changed, such as uniform()"
        )
    for name in ("clients_per_round", "pace"):
        if (value := getattr(plan, name)) is not None:
            raise ValueError(f"plan: its {name} is {value!r}, expected None: no round has a cohort")
    require_speeds("speeds", speeds, n_clients)
    for name, value, most in (("concurrency", concurrency, n_clients), ("buffer", buffer, None)):
        if not (isinstance(value, Integral) and 1 <= value <= (most or value)):
            limit = f"from 1 to {most}, the clients" if most else "of at least 1"
            raise ValueError(f"{name}: got {value!r}, expected an integer {limit}")
