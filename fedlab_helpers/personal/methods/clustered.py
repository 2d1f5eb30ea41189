"""Several common models, each for the clients that it fits best."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.state import of_model
from fedlab_helpers.personal.federation import Answer, Course, Moment
from fedlab_helpers.strategies.clusters import best_model, ifca_rounds, unlike_starts
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

WARM_UP = 0.35  # share of the rounds before the models part


@dataclass(frozen=True)
class Clustered:
    """IFCA with as many models as the number says, after some rounds with one."""

    tries: tuple[float, ...] = (2, 3, 4, 6)

    def moments(self, course: Course, number: float) -> Iterator[Moment]:
        """Yield the models whenever they are due, once there are several."""
        early = max(1, round(WARM_UP * course.plan.rounds))
        warm = replace(course, plan=replace(course.plan, rounds=early), every=early)
        ((_, weights, up, total),) = warm.train_together()
        model = course.new_model()
        model.load_state_dict(weights)
        starts, record = unlike_starts(model, course.clients, course.plan, int(number), course.stop)
        up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
        models = [course.new_model() for _ in starts]
        for each, start in zip(models, starts, strict=True):
            each.load_state_dict(start)
        seed = child_seed(course.plan.seed, "clusters")
        plan = replace(course.plan, rounds=course.plan.rounds - early - 1, seed=seed)
        for record in ifca_rounds(models, course.clients, course.strategy, plan, stop=course.stop):
            up, total = up + record.bytes_up, total + record.bytes_up + record.bytes_down
            at = early + 1 + record.round
            if course.due(at):
                yield self._moment(course, models, at, up, total)
        course.require_going_on()

    def _moment(
        self, course: Course, models: list[SentimentLSTM], at: int, up: int, total: int
    ) -> Moment:
        picks = tuple(best_model(models, data) for data in course.clients)
        answers = [course.answer_of(of_model(model)) for model in models]
        frozen = [course.new_model() for _ in models]
        for each, model in zip(frozen, models, strict=True):
            each.load_state_dict(of_model(model))
        largest = max(range(len(models)), key=picks.count)

        def welcome(data: EncodedReviews | None) -> Answer:
            return answers[largest if data is None else best_model(frozen, data)]

        return Moment(at, lambda client: answers[picks[client]], welcome, up, total, picks)
