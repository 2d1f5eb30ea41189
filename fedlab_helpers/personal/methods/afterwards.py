"""Training of each client's own that follows on what all have trained together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Add
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot, Step
from fedlab_helpers.personal.fine_tuning import Tuned, fine_tune, within
from fedlab_helpers.strategies.personal import PerFedAvg


@dataclass(frozen=True)
class Afterwards(Method):
    """Training of each client's own after what all have trained together: from the best and the
    last of the common weights."""

    number: str  # what the one number is: "lr", "epochs" or "lam", or "" for one of the base
    tries: tuple[float, ...]
    blocks: tuple[str, ...] = ()  # that are trained; none named: all
    epochs: int = 5  # at most, or exactly if not `stopped`
    stopped: bool = True  # whether a client keeps the epoch that is best on its validation reviews
    lr: float = 2e-3  # of Adam
    lam: float = 0.0  # weight of the pull to the start
    # (federation, number) -> what all train together; None: the shared run
    base: Callable[[Federation, float], Iterator[Step]] | None = None

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
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
            member, who = self.federation.members[client], ("personal", client)
            held_out = member.validation if self.how.stopped else None
            self.tuned[client] = self._tune(member.train, self.how.epochs, held_out, who)
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
        how, run = self.how, self.federation
        options = {"trains": within(*how.blocks), "lam": how.lam, "stop": run.stop}
        options |= {"validation": validation, "seed": child_seed(run.plan.seed, *who)}
        return fine_tune(self.model, self.start, data, LocalConfig(lr=how.lr), epochs, **options)


def untrained(federation: Federation, number: float) -> Iterator[Step]:
    """Yield the weights before any training: nothing is sent."""
    yield federation.plan.rounds, of_model(federation.new_model()), 0, 0


def per_fedavg(federation: Federation, alpha: float) -> Iterator[Step]:
    """Yield the weights that Per-FedAvg trains with this rate of its trial steps."""
    return federation.train_together(PerFedAvg(federation.strategy.combine, alpha=alpha), epochs=2)


def reptile(federation: Federation, rate: float) -> Iterator[Step]:
    """Yield the weights of Reptile: FedAvg with two local epochs and this server rate.

    Nichol et al. 2018, arXiv:1803.02999; that FedAvg is Reptile: Jiang et al. 2019,
    arXiv:1909.12488, section 3.
    """
    return federation.train_together(replace(federation.strategy, step=Add(rate)), epochs=2)
