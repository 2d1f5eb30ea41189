"""Several common models, each for the clients that it fits best."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import predict
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot
from fedlab_helpers.strategies.clusters import (
    best_model,
    ifca_rounds,
    random_starts,
    unlike_starts,
)
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

WARM_UP = 0.35  # share of the rounds before the models part
_Start = tuple[list[SentimentLSTM], int, int, int]  # models, rounds spent, bytes up and both ways


@dataclass(frozen=True)
class Clustered(Method):
    """IFCA with as many models as the number says; seen whenever they are due, once there are
    several.

    Args:
        warm: they part after some rounds with one model and a round in which all clients train,
            and begin as those whose changes are least alike; False: they begin at random, as in
            the paper, and all rounds are IFCA's.
    """

    tries: tuple[float, ...] = (2, 3, 4, 6)
    warm: bool = True

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        clients, plan = federation.clients, federation.plan
        start = self._warm if self.warm else self._random
        models, spent, up, total = start(federation, int(number))
        seed = child_seed(plan.seed, "clusters")
        plan, stop = replace(plan, rounds=plan.rounds - spent, seed=seed), federation.stop
        for record in ifca_rounds(models, clients, federation.strategy, plan, stop=stop):
            up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
            if federation.due(at := spent + record.round):
                yield _snapshot(federation, [of_model(model) for model in models], at, up, total)
        federation.require_going_on()

    def _random(self, federation: Federation, count: int) -> _Start:
        def new_model(seed: int) -> SentimentLSTM:
            return federation.new_model(seed=seed)

        return random_starts(new_model, count, federation.plan.seed), 0, 0, 0

    def _warm(self, federation: Federation, count: int) -> _Start:
        plan = federation.plan
        early = max(1, round(WARM_UP * plan.rounds))
        warm = replace(federation, plan=replace(plan, rounds=early), every=early)
        ((_, weights, up, total),) = warm.train_together()
        model, stop = federation.model_of(weights), federation.stop
        starts, record = unlike_starts(model, federation.clients, plan, count, stop)
        up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
        return [*map(federation.model_of, starts)], early + 1, up, total


def _snapshot(federation: Federation, states: list[State], at: int, *sent: int) -> Snapshot:
    models = [federation.model_of(weights) for weights in states]
    answers = [partial(predict, model) for model in models]
    picks = tuple(best_model(models, data) for data in federation.clients)
    largest = max(range(len(models)), key=picks.count)

    def newcomer(data: Examples | None) -> Answer:
        return answers[largest if data is None else best_model(models, data)]

    return Snapshot(at, lambda client: answers[picks[client]], newcomer, *sent, picks)
