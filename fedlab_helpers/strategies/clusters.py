"""Clustered federation: several global models, and each client trains the one that fits it best."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event

import torch
from torch import nn

from fedlab_helpers.core import compute, rows, state
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import NoUpdateLeft, RoundRecord
from fedlab_helpers.core.messages import Codec, Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.core.rounds import RoundLoop, run, sample_cohort
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy, require_cohort
from fedlab_helpers.core.training import Stopped, evaluate
from fedlab_helpers.strategies.divergence import cosines
from fedlab_helpers.strategies.registry import require_told_nothing


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
        models: of one architecture; changed in place. They must differ, or every client takes the
            first.
        chosen: client -> the model it took last; changed in place.

    The other arguments are those of `rounds`.

    Raises:
        ValueError: the arguments do not fit each other.
        NoUpdateLeft: no client of a round sent an update that could be used.
    """
    require(len(models) > 0, "models", models, "at least one")
    require_cohort(strategy.combine, 1)  # all that a model may get in a round
    require_told_nothing(strategy.combine)
    workers = Clients(models[0], clients, strategy, plan, codec, stop=stop)
    runs = [
        RoundLoop(workers, model, strategy, plan) for model in models
    ]  # each with its own memory
    return _records(runs, workers, plan, {} if chosen is None else chosen)


def random_starts(new_model: Callable[[int], nn.Module], count: int, seed: int) -> list[nn.Module]:
    """Return models to begin with as in the paper: drawn at random, each by itself.

    Clients are asked nothing. Which of two untrained models has the lower loss on somebody's
    reviews is chance, so that groups form late, or not those that were looked for, and a model may
    stay that nobody ever takes; the paper tries several draws and keeps the best.

    Args:
        new_model: seed -> an untrained model.
        count: how many, at least 1.
        seed: of the draw; with a larger count, further models are drawn.

    Raises:
        ValueError: `count` is out of range.
    """
    require_count(count=count)
    return [new_model(compute.child_seed(seed, "start", place)) for place in range(count)]


def best_model(models: Sequence[nn.Module], data: Examples) -> int:
    """Return the place of the model with the lowest loss on these reviews, the first of equals."""
    losses = [evaluate(model, data).loss for model in models]
    return losses.index(min(losses))


def _records(
    runs: Sequence[RoundLoop], workers: Clients, plan: Plan, chosen: dict[int, int]
) -> Iterator[RoundRecord]:
    """Yield a record after each round."""
    models = [run.model for run in runs]
    for number in range(1, plan.rounds + 1):
        cohort = sample_cohort(plan, number, workers.size)
        with compute.intra_op_threads(1):  # the same choice on a machine with more cores
            picks = {client: best_model(models, workers.examples(client)) for client in cohort}
        try:
            for place, run in enumerate(runs):
                takers = tuple(client for client in cohort if picks[client] == place)
                # Where nobody took it, or nobody's update can be used, it stays as it is.
                with suppress(NoUpdateLeft):
                    run.exchange(number, cohort, takers)
        except Stopped:
            return
        record = _record(cohort, [run.books.record({}) for run in runs])
        if cohort and not record.client_losses:
            raise NoUpdateLeft(f"round {number}: every client was left out: {record.left_out}")
        for run in runs:
            run.show()
        chosen.update(picks)
        yield record


def _record(cohort: tuple[int, ...], records: Sequence[RoundRecord]) -> RoundRecord:
    """Return the records of all models as one."""
    return replace(
        records[0],
        cohort=cohort,
        **{
            name: sum(getattr(record, name) for record in records)
            for name in ("examples", "steps", "bytes_down", "bytes_up")
        },
        client_losses={c: x for record in records for c, x in sorted(record.client_losses.items())},
        left_out={c: why for record in records for c, why in record.left_out.items()},
        metrics={f"model {place}": len(record.cohort) for place, record in enumerate(records)},
    )


def unlike_starts(
    model: nn.Module, clients: Sequence[Examples], plan: Plan, count: int, stop: Event | None = None
) -> tuple[list[State], RoundRecord]:
    """Return weights to begin several models with: those of clients that are least alike.

    Every client trains once from the model's weights, for one round of the plan's local training.
    The two whose changes have the smallest cosine are taken, then again and again the one that is
    farthest from all taken (the seeding of k-means by farthest first: Gonzalez 1985,
    doi:10.1016/0304-3975(85)90224-5).

    Args:
        model: the common start; not changed.
        plan: local training and seed.
        count: how many, from 1 to the number of clients.

    Returns:
        The weights, and the record of that round, for its bytes.

    Raises:
        Stopped: `stop` was set.
        ValueError: `count` is out of range, or fewer clients than that could be trained.
    """
    require(1 <= count <= len(clients), "count", count, f"1 to {len(clients)}, the clients")
    before, seen = state.of_model(model), {}

    def keep(update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        seen[update.client] = rows.make_whole(update, before).delta
        return update, kept

    once = replace(plan, rounds=1, clients_per_round=None)
    records = run(copy.deepcopy(model), clients, Strategy(), once, transforms=[keep], stop=stop)
    if not records:
        raise Stopped
    changes = [seen[client] for client in records[0].client_losses]  # of whom was not left out
    require(count <= len(changes), "count", count, f"at most {len(changes)}, who were not left out")
    alike = cosines(changes)
    taken = [int(alike.min(dim=1).values.argmin())]  # it has the most unlike partner of all
    while len(taken) < count:
        nearest = alike[:, taken].max(dim=1).values
        nearest[taken] = torch.inf
        taken.append(int(nearest.argmin()))
    return [state.add(before, changes[place]) for place in taken], records[0]
