"""The federation in which personal methods are compared: one deal, one budget, one start."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from torch import Tensor

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import ordered_map, worker_count
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig, Stopped, predict
from fedlab_helpers.personal.members import Member
from fedlab_helpers.personal.per_client import OwnTest, score
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

Weights = tuple[State, int, int]  # global weights, bytes up so far, bytes both ways
Step = tuple[int, State, int, int]  # the round, and these
Answer = Callable[[Examples], Tensor]  # reviews -> logits (N, C)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a method has made of all clients after a round."""

    round: int  # counted from 1
    answer: Callable[[int], Answer]  # client -> its model
    # labelled reviews of a client that comes later, None: it has none yet -> its model
    newcomer: Callable[[Examples | None], Answer]
    bytes_up: int = 0  # sent by clients so far
    total_bytes: int = 0  # sent both ways so far
    groups: tuple[int, ...] = ()  # which of several models each client uses


@dataclass(frozen=True, eq=False)
class Federation:
    """A federation whose clients are to end with models of their own."""

    members: list[Member]
    vocab_size: int  # words that the models know
    plan: Plan  # rounds, cohort, local training of the common part, seed
    every: int = 4  # rounds between two snapshots of the models; the last round is one
    strategy: Strategy = field(default_factory=strategies.rowwise)  # for what is common
    stop: threading.Event | None = None  # once set, training raises `Stopped`
    # shared runs that have been made with these members, by what decides them
    memory: dict[tuple, dict[int, Weights]] = field(default_factory=dict)
    # what clients scored with them, by the same and the round
    judged: dict[tuple, tuple[float, ...]] = field(default_factory=dict)

    @property
    def clients(self) -> list[Examples]:
        """The training reviews of each client."""
        return [member.train for member in self.members]

    def new_model(
        self, kind: type[SentimentLSTM] = SentimentLSTM, seed: int | None = None
    ) -> SentimentLSTM:
        """Return the untrained model, the same each time; of another seed, another one."""
        seed = self.plan.seed if seed is None else seed
        return kind(self.vocab_size, pooling="mean", dropout=0.3, seed=seed)

    def due(self, number: int) -> bool:
        """Return whether the models are looked at after this round."""
        return number % self.every == 0 or number == self.plan.rounds

    def rounds(
        self, model: SentimentLSTM, strategy: Strategy, epochs: int = 0, **options
    ) -> Iterator[tuple[int, int, int]]:
        """Train a model in place, so many local epochs a round (0: as planned), with the options
        of `core.rounds.rounds`; yield round, bytes up and both ways, whenever it is due."""
        local, up, down = self.plan.local, 0, 0
        plan = replace(self.plan, local=replace(local, epochs=epochs or local.epochs))
        for record in rounds(model, self.clients, strategy, plan, stop=self.stop, **options):
            up, down = up + record.bytes_up, down + record.bytes_down
            if self.due(record.round):
                yield record.round, up, up + down
        self.require_going_on()

    def train_together(self, strategy: Strategy | None = None, epochs: int = 0) -> Iterator[Step]:
        """Yield round, global weights, bytes up and bytes both ways, whenever they are due."""
        model = self.new_model()
        for number, *sent in self.rounds(model, strategy or self.strategy, epochs):
            yield number, of_model(model), *sent

    def require_going_on(self) -> None:
        """Raise Stopped if `stop` has been set."""
        if self.stop is not None and self.stop.is_set():
            raise Stopped

    @property
    def known(self) -> dict[int, Weights] | None:
        """The shared run if it has been made."""
        return self.memory.get((self.plan, self.strategy, self.every))

    @property
    def shared(self) -> dict[int, Weights]:
        """The run in which all clients share one model; made when it is first asked for."""
        if self.known is None:
            list(self.make_shared())
        return self.known

    def make_shared(self) -> Iterator[tuple[int, State]]:
        """Make the shared run, and yield round and weights whenever they are due."""
        run = {}
        for number, *step in self.train_together():
            run[number] = tuple(step)
            yield number, step[0]
        self.memory[self.plan, self.strategy, self.every] = run

    @cached_property
    def best_shared_round(self) -> int:
        """The round whose shared model does best on the clients' own validation reviews."""
        better = max if self.members[0].validation.objective.higher_is_better else min
        answers = {number: self.answer_of(run[0]) for number, run in self.shared.items()}
        return better(answers, key=lambda at: self.validation_score(lambda client: answers[at]))

    def model_of(self, weights: State, kind: type[SentimentLSTM] = SentimentLSTM) -> SentimentLSTM:
        """Return a model with these weights, ready to answer in several threads."""
        model = self.new_model(kind).eval()
        model.load_state_dict(weights)
        return model

    def answer_of(self, weights: State, kind: type[SentimentLSTM] = SentimentLSTM) -> Answer:
        """Return such a model, as a function of reviews."""
        return partial(predict, self.model_of(weights, kind))

    def scores(self, answer: Callable[[int], Answer]) -> Iterator[float]:
        """Yield each client's accuracy on its own test, in their order, with its model `answer`:
        models are made one after the other and asked side by side. Raises Stopped if `stop` is
        set."""

        def score_of(asked: tuple[OwnTest, Answer]) -> float:
            test, model = asked
            return test.accuracy(test.right(model(test.data)))

        def asked() -> Iterator[tuple[OwnTest, Answer]]:
            for client, member in enumerate(self.members):
                self.require_going_on()
                yield member.test, answer(client)

        yield from ordered_map(score_of, asked(), worker_count(self.plan.workers))

    def shared_scores(self, number: int, weights: State) -> tuple[float, ...]:
        """Return each client's accuracy on its own test with the shared run's weights after this
        round; a round is judged once. Raises Stopped if `stop` is set."""
        key = (self.plan, self.strategy, self.every, number)
        if key not in self.judged:
            shared = self.answer_of(weights)
            self.judged[key] = tuple(self.scores(lambda client: shared))
        return self.judged[key]

    def validation_score(self, answer: Callable[[int], Answer]) -> float:
        """Return the mean over the clients of the measure on their own validation reviews."""
        own = enumerate(member.validation for member in self.members)
        return float(np.mean([score(answer(client)(data), data) for client, data in own]))


class Method(Protocol):
    """One way to a model for each client; a frozen value."""

    tries: tuple[float, ...]  # values of its number that are worth trying; none: it has none

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        """Yield what it has made of the clients whenever that is to be looked at."""


def usual_plan(rounds: int, seed: int, lr: float = 2e-2) -> Plan:
    """Return the plan of the studies: cohorts of 10, one epoch of Adam, row-wise FedAvg's rate."""
    return Plan(rounds, 10, LocalConfig(lr=lr), seed, workers=1)
