"""Federated runs in which each client keeps something of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Combine, Strategy
from fedlab_helpers.personal.federation import Answer, Federation, Snapshot
from fedlab_helpers.personal.fine_tuning import fine_tune, own_weights
from fedlab_helpers.strategies.personal import APFL, keep_private, train_mixture
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

NEWCOMERS_EPOCHS = 5  # over what a newcomer keeps private


@dataclass(frozen=True)
class Together:
    """A federated run in which clients keep something of their own.

    Args:
        make: (combine, number) -> strategy.
        private: blocks of the model that are not sent.
        tries: values of the number.
        kind: of the model.
        epochs: local epochs a round.
    """

    make: Callable[[Combine, float], Strategy] = lambda combine, number: Strategy(combine)
    private: tuple[str, ...] = ()
    tries: tuple[float, ...] = ()
    kind: type[SentimentLSTM] = SentimentLSTM
    epochs: int = 1

    def snapshots(self, federation: Federation, number: float = 0.0) -> Iterator[Snapshot]:
        """Yield each client's own model whenever it is due."""
        model, states = federation.new_model(self.kind), {}
        strategy = self.make(federation.strategy.combine, number)
        options = {"shared": keep_private(*self.private), "client_states": states}
        for so_far in federation.rounds(model, strategy, self.epochs, **options):
            yield self._snapshot(federation, strategy, of_model(model), dict(states), *so_far)

    def _snapshot(
        self,
        federation: Federation,
        strategy: Strategy,
        weights: State,
        kept: dict[int, ClientState],
        *so_far: int,
    ) -> Snapshot:
        def own(client: int) -> Answer:
            data = federation.members[client].train
            return federation.answer_of(own_weights(weights, kept.get(client, {}), data), self.kind)

        def newcomer(data: Examples | None) -> Answer:
            trained = weights if data is None else self._tuned(federation, strategy, weights, data)
            return federation.answer_of(trained, self.kind)

        at, *sent = so_far
        return Snapshot(at, own, newcomer, *sent)

    def _tuned(
        self, federation: Federation, strategy: Strategy, weights: State, data: Examples
    ) -> State:
        """Return a newcomer's weights: what is its own begins as it did with all others."""
        plan, model = federation.plan, federation.new_model(self.kind)
        local, seed = plan.local, child_seed(plan.seed, "newcomer")
        if isinstance(strategy, APFL):
            model.load_state_dict(weights)
            local = replace(local, epochs=NEWCOMERS_EPOCHS)
            mixture = train_mixture(model, weights, strategy.alpha, data, local, seed)
            return weights | {name: t.detach() for name, t in mixture.mixed().items()}
        options = {
            "trains": lambda name: not self.private or name.split(".")[0] in self.private,
            "lam": getattr(strategy, "lam", 0.0),
            "seed": seed,
        }
        return fine_tune(model, weights, data, local, NEWCOMERS_EPOCHS, **options).weights
