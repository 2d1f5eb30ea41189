"""Federated runs in which each client keeps something of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Combine, Strategy
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot
from fedlab_helpers.personal.fine_tuning import fine_tune, own_weights, within
from fedlab_helpers.strategies.personal import APFL, keep_private, train_mixture
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

NEWCOMERS_EPOCHS = 5  # over what a newcomer keeps private


@dataclass(frozen=True)
class Together(Method):
    """A federated run in which clients keep something of their own; seen whenever it is due."""

    # (combine, number) -> strategy
    make: Callable[[Combine, float], Strategy] = lambda combine, number: Strategy(combine)
    private: tuple[str, ...] = ()  # blocks of the model that are not sent
    tries: tuple[float, ...] = ()
    kind: type[SentimentLSTM] = SentimentLSTM
    epochs: int = 1  # local ones a round

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        model, states = federation.new_model(self.kind), {}
        strategy = self.make(federation.strategy.combine, number)
        options = {"shared": keep_private(*self.private), "client_states": states}
        for at, *sent in federation.rounds(model, strategy, self.epochs, **options):
            weights = of_model(model)
            own = partial(self._own, federation, weights, dict(states))
            newcomer = partial(self._newcomer, federation, weights, strategy)
            yield Snapshot(at, own, newcomer, *sent)

    def _own(
        self, federation: Federation, weights: State, kept: dict[int, ClientState], client: int
    ) -> Answer:
        data = federation.members[client].train
        return federation.answer_of(own_weights(weights, kept.get(client, {}), data), self.kind)

    def _newcomer(
        self, federation: Federation, weights: State, strategy: Strategy, data: Examples | None
    ) -> Answer:
        """Return a newcomer's model: what is its own begins as it did with all others."""
        model, local = federation.model_of(weights, self.kind), federation.plan.local
        seed = child_seed(federation.plan.seed, "newcomer")
        if data is not None and isinstance(strategy, APFL):
            local = replace(local, epochs=NEWCOMERS_EPOCHS)
            mixture = train_mixture(model, weights, strategy.alpha, data, local, seed)
            weights = weights | {name: t.detach() for name, t in mixture.mixed().items()}
        elif data is not None:
            options = {"trains": within(*self.private), "seed": seed}
            options["lam"] = getattr(strategy, "lam", 0.0)
            weights = fine_tune(model, weights, data, local, NEWCOMERS_EPOCHS, **options).weights
        return federation.answer_of(weights, self.kind)
