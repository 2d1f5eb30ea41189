"""Several common models, each for the clients that it fits best."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import predict
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot
from fedlab_helpers.strategies.clusters import best_model, ifca_rounds, unlike_starts

WARM_UP = 0.35  # share of the rounds before the models part


@dataclass(frozen=True)
class Clustered(Method):
    """IFCA with as many models as the number says, after some rounds with one; seen whenever they
    are due, once there are several."""

    tries: tuple[float, ...] = (2, 3, 4, 6)

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        clients, plan, stop = federation.clients, federation.plan, federation.stop
        early = max(1, round(WARM_UP * plan.rounds))
        warm = replace(federation, plan=replace(plan, rounds=early), every=early)
        ((_, weights, up, total),) = warm.train_together()
        model = federation.model_of(weights)
        starts, record = unlike_starts(model, clients, plan, int(number), stop)
        up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
        models, seed = [*map(federation.model_of, starts)], child_seed(plan.seed, "clusters")
        plan = replace(plan, rounds=plan.rounds - early - 1, seed=seed)
        for record in ifca_rounds(models, clients, federation.strategy, plan, stop=stop):
            up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
            if federation.due(at := early + 1 + record.round):
                yield _snapshot(federation, [of_model(model) for model in models], at, up, total)
        federation.require_going_on()


def _snapshot(federation: Federation, states: list[State], at: int, *sent: int) -> Snapshot:
    models = [federation.model_of(weights) for weights in states]
    answers = [partial(predict, model) for model in models]
    picks = tuple(best_model(models, data) for data in federation.clients)
    largest = max(range(len(models)), key=picks.count)

    def newcomer(data: Examples | None) -> Answer:
        return answers[largest if data is None else best_model(models, data)]

    return Snapshot(at, lambda client: answers[picks[client]], newcomer, *sent, picks)
