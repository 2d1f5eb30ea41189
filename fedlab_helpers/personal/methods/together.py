"""Federated runs in which each client keeps something of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Combine, Strategy
from fedlab_helpers.personal.federation import Answer, Course, Moment
from fedlab_helpers.personal.fine_tuning import fine_tune, own_weights
from fedlab_helpers.strategies.personal import APFL, keep_private, train_mixture
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
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

    def moments(self, course: Course, number: float = 0.0) -> Iterator[Moment]:
        """Yield each client's own model whenever it is due."""
        model, states, up, down = course.new_model(self.kind), {}, 0, 0
        plan = replace(course.plan, local=replace(course.plan.local, epochs=self.epochs))
        strategy = self.make(course.strategy.combine, number)
        shared = keep_private(*self.private)
        options = {"shared": shared, "client_states": states, "stop": course.stop}
        for record in rounds(model, course.clients, strategy, plan, **options):
            up, down = up + record.bytes_up, down + record.bytes_down
            if course.due(record.round):
                weights, kept = of_model(model), dict(states)

                def own(client: int, weights: State = weights, kept: dict = kept) -> Answer:
                    data = course.members[client].train
                    mine = own_weights(weights, kept.get(client, {}), data)
                    return course.answer_of(mine, self.kind)

                def welcome(data: EncodedReviews | None, weights: State = weights) -> Answer:
                    return self._welcome(course, strategy, weights, data)

                yield Moment(record.round, own, welcome, up, up + down)
        course.require_going_on()

    def _welcome(
        self, course: Course, strategy: Strategy, weights: State, data: EncodedReviews | None
    ) -> Answer:
        """Return a newcomer's model: what is its own begins as it did with all others."""
        if data is None:
            return course.answer_of(weights, self.kind)
        local, seed = course.plan.local, child_seed(course.plan.seed, "newcomer")
        model = course.new_model(self.kind)
        if isinstance(strategy, APFL):
            model.load_state_dict(weights)
            local = replace(local, epochs=NEWCOMERS_EPOCHS)
            mixture = train_mixture(model, weights, strategy.alpha, data, local, seed)
            return course.answer_of({n: t.detach() for n, t in mixture.mixed().items()}, self.kind)
        tuned = fine_tune(
            model,
            weights,
            data,
            local,
            NEWCOMERS_EPOCHS,
            trains=lambda name: not self.private or name.split(".")[0] in self.private,
            lam=getattr(strategy, "lam", 0.0),
            seed=seed,
        )
        return course.answer_of(tuned.weights, self.kind)
