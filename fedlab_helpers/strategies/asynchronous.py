"""Buffered asynchronous rounds: the server does not wait for the slow, on a simulated clock."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import Event
from typing import NamedTuple

import numpy as np
from torch import nn

from fedlab_helpers.core import compute
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.messages import Codec, Received, Request, Update
from fedlab_helpers.core.plan import Plan, require_speeds
from fedlab_helpers.core.require import is_count, is_number, require, require_count
from fedlab_helpers.core.rounds import RoundLoop
from fedlab_helpers.core.state import clone
from fedlab_helpers.core.strategy import Strategy, require_cohort
from fedlab_helpers.strategies.registry import require_told_nothing


def speeds(n_clients: int, rng: np.random.Generator, spread: float) -> tuple[float, ...]:
    """Return log-normal speeds, in steps a second, with median 1. `spread` is the standard
    deviation of their natural logarithm: at 0 all are equal, at 0.5 one client in six is slower
    than 0.6, and one in six faster than 1.65."""
    require_count(n_clients=n_clients)
    require(is_number(spread, 0), "spread", spread, "a finite number not below 0")
    return tuple(np.exp(spread * rng.standard_normal(n_clients)).tolist())


class Arrival(NamedTuple):
    """One client's update reaches the server. In order of time, at one instant by client."""

    time: float  # in simulated seconds from the start of the run
    client: int
    call: int  # at which call for clients it started, from 1; no client starts twice in one
    version: int  # of the weights it started from: so many flushes came before


class Flush(NamedTuple):
    """One server step, with the last of its arrivals."""

    arrivals: tuple[Arrival, ...]  # the updates in the buffer, in the order they came
    started: tuple[int, ...]  # clients that started since the flush before, from its weights


def timeline(
    durations: Sequence[float], flushes: int, *, concurrency: int, buffer: int, seed: int
) -> list[Flush]:
    """Return who arrives when: known in advance, for a client's duration is.

    What happens at one instant has an order: updates arrive by client, ascending; a full buffer is
    flushed at once; only then the server calls as many new clients as have arrived, drawn
    uniformly from those not training.

    Args:
        durations: seconds that each client trains.
        flushes: how many; `concurrency` and `buffer` are as in `buffered_rounds`.
        seed: decides who is drawn. Where all durations are equal and the buffer holds `concurrency`
            updates, the clients are those of `sample_cohort`.
    """
    done, arrived, started = [], [], []
    training: list[Arrival] = []
    time, call, free = 0.0, 0, concurrency
    while True:
        call += 1
        busy = {arrival.client for arrival in training}
        idle = [client for client in range(len(durations)) if client not in busy]
        drawn = compute.numpy_rng(seed, "cohort", call).choice(idle, free, replace=False)
        for client in sorted(drawn.tolist()):
            heapq.heappush(training, Arrival(time + durations[client], client, call, len(done)))
            started.append(client)
        time, free = training[0].time, 0
        while training and training[0].time == time:
            arrived.append(heapq.heappop(training))
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
        plan: its rounds are flushes; who trains is not up to its cohorts or `pace`.
        speeds: of each client, in steps a second, simulated.
        concurrency: how many clients train at any time.
        buffer: updates in a flush.
        stop: once set, training ends between two batches, and the unfinished flush is dropped.

    The other arguments are those of `rounds`.

    Raises:
        ValueError: the arguments do not fit each other, or clients of this strategy or codec
            keep something, or send whole weights.
        NoUpdateLeft: no update of a flush could be used.
    """
    require_speeds("speeds", speeds, len(clients))
    fine = is_count(concurrency) and concurrency <= len(clients)
    require(fine, "concurrency", concurrency, f"an integer from 1 to {len(clients)}, the clients")
    require_count(buffer=buffer)
    require_cohort(strategy.combine, buffer)
    require_told_nothing(strategy.combine)
    _require_nothing_kept(strategy, plan, codec)
    workers = Clients(model, clients, strategy, plan, codec, stop=stop)
    sizes = [len(workers.examples(client)) for client in range(len(clients))]
    seconds = [plan.local.steps(n) / speed for n, speed in zip(sizes, speeds, strict=True)]
    options = {"concurrency": concurrency, "buffer": buffer, "seed": plan.seed}
    flushes = timeline(seconds, plan.rounds, **options)
    return _Buffered(workers, model, strategy, plan, test, flushes=flushes).timed_records()


@dataclass(eq=False)
class _Buffered(RoundLoop):
    """A run whose rounds are flushes; versions of the weights are kept while they are needed."""

    flushes: Sequence[Flush] = ()
    versions: dict[int, Received] = field(default_factory=dict)

    def timed_records(self) -> Iterator[RoundRecord]:
        """Yield the record of each flush, with its time and the mean staleness of its buffer."""
        for version, record in enumerate(self.records()):
            flush = self.flushes[version]
            staleness = sum(version - a.version for a in flush.arrivals) / len(flush.arrivals)
            when = {"clock": flush.arrivals[-1].time, "staleness": staleness}
            yield replace(record, metrics=record.metrics | when)

    def advance(self, number: int) -> None:
        flush = self.flushes[number - 1]
        self.exchange(number, flush.started, tuple(arrival.client for arrival in flush.arrivals))

    def updates(self, number: int, cohort: Sequence[int], received: Received) -> Iterator[Update]:
        """Yield the updates in the buffer that can be used, each change scaled by its staleness."""
        arrivals, version = self.flushes[number - 1].arrivals, number - 1
        needed = {a.version for flush in self.flushes[version:] for a in flush.arrivals}
        kept = replace(received, weights=clone(received.weights))  # the server goes on
        versions = self.versions | {version: kept}
        self.versions = {v: sent for v, sent in versions.items() if v in needed}
        requests = (Request(a.call, a.client, self.versions[a.version]) for a in arrivals)
        with closing(self.workers.answers(requests, {})) as replies:
            for arrival, reply in zip(arrivals, replies, strict=True):
                if (update := self.books.read(reply)) is not None:
                    scale = (1 + version - arrival.version) ** -0.5
                    yield replace(update, delta={n: t * scale for n, t in update.delta.items()})
        self.books.require_update()


def _require_nothing_kept(strategy: Strategy, plan: Plan, codec: Codec | None) -> None:
    if hasattr(codec, "pack"):
        raise ValueError(f"codec: got {codec!r}, but here clients keep nothing between their turns")
    keeps = strategy.dense or getattr(strategy, "keeps_model", False)
    if keeps or strategy.sends != "change":
        why = "keep something between their turns" if keeps else "send whole weights"
        raise ValueError(
            f"strategy: clients of {type(strategy).__name__} {why}, expected one whose clients "
            "send only how the weights changed, such as uniform()"
        )
    for name, accepted in {"clients_per_round": None, "pace": None, "sampling": "fixed"}.items():
        value = getattr(plan, name)
        expected = f"{accepted!r}: no round has a cohort"
        require(value == accepted, f"plan: its {name}", value, expected)
