"""Training of each client's own that follows on what all have trained together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Add
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.personal.federation import Answer, Federation, Snapshot
from fedlab_helpers.personal.fine_tuning import Tuned, fine_tune
from fedlab_helpers.strategies.personal import PerFedAvg

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
        base: (federation, number) -> what all train together; None: the shared run.
    """

    number: str
    tries: tuple[float, ...]
    blocks: tuple[str, ...] = ()
    epochs: int = 5
    stopped: bool = True
    lr: float = 2e-3
    lam: float = 0.0
    base: Callable[[Federation, float], Steps] | None = None

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        """Yield what own training makes of the best and of the last common weights."""
        if self.base:
            steps = list(self.base(federation, number))[-1:]
        else:
            chosen = sorted({federation.best_shared_round, federation.plan.rounds})
            steps = [(at, *federation.shared[at]) for at in chosen]
        mine = replace(self, **{self.number: number}) if self.number else self
        for at, weights, up, total in steps:
            tuner = _Tuner(federation, replace(mine, epochs=int(mine.epochs)), weights)
            yield Snapshot(at, tuner.own, tuner.newcomer, up, total)


class _Tuner:
    """Fine-tunes each client once, when its model is first asked for."""

    def __init__(self, federation: Federation, how: Afterwards, start: State):
        self.federation, self.how, self.start = federation, how, start
        self.model, self.tuned = federation.new_model(), {}

    def own(self, client: int) -> Answer:
        """Return the client's own model."""
        self.federation.require_going_on()
        if client not in self.tuned:
            member = self.federation.members[client]
            held_out = member.validation if self.how.stopped else None
            self.tuned[client] = self._tune(
                member.train, self.how.epochs, held_out, ("personal", client)
            )
        return self.federation.answer_of(self.tuned[client].weights)

    def newcomer(self, data: Examples | None) -> Answer:
        """Return a newcomer's model, trained for as many epochs as suited the median client."""
        if data is None:
            return self.federation.answer_of(self.start)
        for client in range(len(self.federation.members)):
            self.own(client)
        epochs = round(median(tuned.epochs for tuned in self.tuned.values()))
        return self.federation.answer_of(self._tune(data, epochs, None, ("newcomer",)).weights)

    def _tune(self, data: Examples, epochs: int, validation: Examples | None, who: tuple) -> Tuned:
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
            seed=child_seed(self.federation.plan.seed, *who),
            stop=self.federation.stop,
        )


def untrained(federation: Federation, number: float) -> Steps:
    """Yield the weights before any training: nothing is sent."""
    yield federation.plan.rounds, of_model(federation.new_model()), 0, 0


def two_epochs(federation: Federation, number: float) -> Steps:
    """Yield the shared weights of a run with two local epochs a round."""
    return federation.train_together(epochs=2)


def per_fedavg(federation: Federation, alpha: float) -> Steps:
    """Yield the weights that Per-FedAvg trains with this rate of its trial steps."""
    return federation.train_together(PerFedAvg(federation.strategy.combine, alpha=alpha), epochs=2)


def reptile(federation: Federation, rate: float) -> Steps:
    """Yield the weights of Reptile: FedAvg with two local epochs and this server rate.

    Nichol et al. 2018, arXiv:1803.02999; that FedAvg is Reptile: Jiang et al. 2019,
    arXiv:1909.12488, section 3.
    """
    return federation.train_together(replace(federation.strategy, step=Add(rate)), epochs=2)
