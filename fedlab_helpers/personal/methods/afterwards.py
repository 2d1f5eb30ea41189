"""Training of each client's own that follows on what all have trained together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Add
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.personal.federation import Answer, Course, Moment
from fedlab_helpers.personal.fine_tuning import Tuned, fine_tune
from fedlab_helpers.strategies.personal import PerFedAvg
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

Steps = Iterable[tuple[int, State, int, int]]  # round, global weights, bytes up, bytes both ways


@dataclass(frozen=True)
class Afterwards:
    """Training of each client's own, after what all have trained together.

    Args:
        number: what the one number is: "lr", "epochs" or "lam", or "" for one of the base.
        tries: values of it.
        blocks: that are trained; none named: all.
        epochs: at most, or exactly if not `stopped`.
        stopped: whether a client keeps the epoch that is best on its own validation reviews.
        lr: learning rate of Adam.
        lam: weight of the pull to the start.
        base: (course, number) -> what all train together; None: the shared run.
    """

    number: str
    tries: tuple[float, ...]
    blocks: tuple[str, ...] = ()
    epochs: int = 5
    stopped: bool = True
    lr: float = 2e-3
    lam: float = 0.0
    base: Callable[[Course, float], Steps] | None = None

    def moments(self, course: Course, number: float) -> Iterator[Moment]:
        """Yield what own training makes of the best and of the last common weights."""
        if self.base:
            steps = list(self.base(course, number))[-1:]
        else:
            chosen = sorted({course.best_shared_round, course.plan.rounds})
            steps = [(at, *course.shared[at]) for at in chosen]
        mine = replace(self, **{self.number: number}) if self.number else self
        for at, weights, up, total in steps:
            tuner = _Tuner(course, replace(mine, epochs=int(mine.epochs)), weights)
            yield Moment(at, tuner.own, tuner.welcome, up, total)


class _Tuner:
    """Fine-tunes each client once, when its model is first asked for."""

    def __init__(self, course: Course, how: Afterwards, start: State):
        self.course, self.how, self.start = course, how, start
        self.model, self.tuned = course.new_model(), {}

    def own(self, client: int) -> Answer:
        """Return the client's own model."""
        self.course.require_going_on()
        if client not in self.tuned:
            member = self.course.members[client]
            held_out = member.validation if self.how.stopped else None
            self.tuned[client] = self._tune(
                member.train, self.how.epochs, held_out, ("personal", client)
            )
        return self.course.answer_of(self.tuned[client].weights)

    def welcome(self, data: EncodedReviews | None) -> Answer:
        """Return a newcomer's model, trained for as many epochs as suited the median client."""
        if data is None:
            return self.course.answer_of(self.start)
        for client in range(len(self.course.members)):
            self.own(client)
        epochs = round(median(tuned.epochs for tuned in self.tuned.values()))
        return self.course.answer_of(self._tune(data, epochs, None, ("newcomer",)).weights)

    def _tune(
        self, data: EncodedReviews, epochs: int, validation: EncodedReviews | None, who: tuple
    ) -> Tuned:
        how, blocks = self.how, self.how.blocks
        return fine_tune(
            self.model,
            self.start,
            data,
            LocalConfig(lr=how.lr),
            epochs,
            validation=validation,
            trains=lambda name: not blocks or name.split(".")[0] in blocks,
            lam=how.lam,
            seed=child_seed(self.course.plan.seed, *who),
            stop=self.course.stop,
        )


def untrained(course: Course, number: float) -> Steps:
    """Yield the weights before any training: nothing is sent."""
    yield course.plan.rounds, of_model(course.new_model()), 0, 0


def two_epochs(course: Course, number: float) -> Steps:
    """Yield the shared weights of a run with two local epochs a round."""
    return course.train_together(epochs=2)


def per_fedavg(course: Course, alpha: float) -> Steps:
    """Yield the weights that Per-FedAvg trains with this rate of its trial steps."""
    return course.train_together(PerFedAvg(course.strategy.combine, alpha=alpha), epochs=2)


def reptile(course: Course, rate: float) -> Steps:
    """Yield the weights of Reptile: FedAvg with two local epochs and this server rate.

    Nichol et al. 2018, arXiv:1803.02999; that FedAvg is Reptile: Jiang et al. 2019,
    arXiv:1909.12488, section 3.
    """
    return course.train_together(replace(course.strategy, step=Add(rate)), epochs=2)
