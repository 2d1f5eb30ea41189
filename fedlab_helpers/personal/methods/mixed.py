"""The answers of two models, mixed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedlab_helpers.personal.federation import Answer, Course, Method, Moment
from fedlab_helpers.personal.fine_tuning import SHARES, loss_of_mix, mix
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


@dataclass(frozen=True)
class Mixed:
    """Another method's models, their answers mixed with those of the shared model.

    One share for all clients (the source has one for each): that with the lowest loss on their
    validation reviews, in the mean over clients. What both runs send is counted.
    """

    method: Method

    @property
    def tries(self) -> tuple[float, ...]:
        """The values worth trying are the method's."""
        return self.method.tries

    def moments(self, course: Course, number: float) -> Iterator[Moment]:
        """Yield the mixtures whenever the method's models are there."""
        for moment in self.method.moments(course, number):
            weights, up, total = course.shared[moment.round]
            plain = course.answer_of(weights)
            share = self._best_share(course, plain, moment)

            def mixed(own: Answer, plain: Answer = plain, share: float = share) -> Answer:
                return lambda reviews: mix(plain(reviews), own(reviews), share).log()

            def own(client: int, moment: Moment = moment, mixed: Callable = mixed) -> Answer:
                return mixed(moment.answer(client))

            def welcome(
                data: EncodedReviews | None, moment: Moment = moment, mixed: Callable = mixed
            ) -> Answer:
                return mixed(moment.welcome(data))

            up, total = up + moment.bytes_up, total + moment.total_bytes
            yield Moment(moment.round, own, welcome, up, total, moment.groups)

    def _best_share(self, course: Course, plain: Answer, moment: Moment) -> float:
        asked = [
            (plain(m.validation), moment.answer(client)(m.validation), m.validation.labels)
            for client, m in enumerate(course.members)
        ]
        losses = [sum(loss_of_mix(*a, share) for a in asked) for share in SHARES]
        return SHARES[losses.index(min(losses))]
