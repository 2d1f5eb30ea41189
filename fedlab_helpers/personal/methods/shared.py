"""One model for all clients, and what a client can gain by its labels alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.personal.federation import Answer, Course, Moment
from fedlab_helpers.personal.fine_tuning import lean
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


@dataclass(frozen=True)
class Shared:
    """One model for all; `leaning`: each client adds what its own labels alone tell."""

    leaning: bool = False
    tries: tuple[float, ...] = ()

    def moments(self, course: Course, number: float = 0.0) -> Iterator[Moment]:
        """Yield the shared model whenever it is due."""
        everybody = torch.cat([member.train.labels for member in course.members])
        for at, (weights, up, total) in course.shared.items():
            plain = course.answer_of(weights)

            def answer(labels: torch.Tensor, plain: Answer = plain) -> Answer:
                return lambda reviews: lean(plain(reviews), labels, everybody)

            def own(client: int, plain: Answer = plain) -> Answer:
                return answer(course.members[client].train.labels) if self.leaning else plain

            def welcome(data: EncodedReviews | None, plain: Answer = plain) -> Answer:
                return answer(data.labels) if self.leaning and data else plain

            yield Moment(at, own, welcome, up, total)


@dataclass(frozen=True)
class Another:
    """A second shared model, of other first weights and cohorts; nothing about it is personal.

    Two models answer better than one, whatever they are. Mixed with the first, this tells how much
    of what a mixture gains comes of that alone.
    """

    tries: tuple[float, ...] = ()

    def moments(self, course: Course, number: float = 0.0) -> Iterator[Moment]:
        """Yield the second model whenever it is due."""
        seed = child_seed(course.plan.seed, "another")
        return Shared().moments(replace(course, plan=replace(course.plan, seed=seed)))
