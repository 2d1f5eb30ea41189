"""The settings of a whole run as one value: panels, studies and the network share it.

recipe = Recipe("fedprox", {"mu": 0.1}, partition="iid", rounds=5)
for result in recipe.results(task): ...
assert Recipe.from_json(recipe.to_json()) == recipe
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from statistics import mean
from typing import Any

from fedlab_helpers.compression import dense_size
from fedlab_helpers.compression import registry as codecs
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.messages import Codec, RefusedUpdate
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require
from fedlab_helpers.core.rounds import rounds, sample_cohort
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy, least_cohort, require_cohort
from fedlab_helpers.core.training import LocalConfig, Stopped, evaluate
from fedlab_helpers.personal import members
from fedlab_helpers.personal.federation import Federation
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.strategies import attacks
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.tasks.layers import LAYERS
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.model import POOLINGS, SentimentLSTM
from fedlab_helpers.tasks.reviews.task import DEALS, Task

# Rates in the middle of those that strategies were tuned to: `studies.aggregation.CHOSEN`.
LOCAL = {
    "adam": LocalConfig(lr=2e-2),
    "sgd": LocalConfig(lr=1.0, optimizer="sgd", max_grad_norm=None),
}
_WITH_METHOD = {  # all that the federation of a personal method offers
    "strategy": ["rowwise"], "server_rate": [None, 1.0], "attackers": [0], "keep": ["touched_rows"],
    "cell": ["lstm"], "pooling": ["mean"], "embedding": [64], "hidden": [64], "dropout": [0.3],
}  # fmt: skip


def make_strategy(
    name: str, parameters: Mapping[str, float], client_rate: float, server_rate: float | None = None
) -> Strategy:
    """Return a strategy of the registry, for clients that train at this rate; what is not given is
    as the registry has it. Raises ValueError: a parameter is unknown or out of range."""
    given = {} if server_rate is None else {"server_rate": server_rate}
    rate = {"lr": client_rate} if STRATEGIES[name].knows_client_rate else {}
    return STRATEGIES[name].build(**rate, **parameters, **given)


@dataclass(frozen=True)
class Result:
    """Where a run stands after a round; after round 0 the model is untrained.

    Args:
        round: from 0.
        measures: of the global model on the validation examples: the objective's measure first,
            then "loss". With a personal method: the mean over the clients.
        bytes_up: sent by all clients so far.
        bytes_down: sent to them so far.
        dense_bytes_up: what they would have sent in float32, every value.
        updates: that were sent so far.
        seconds: that the run has taken so far.
        left_out: updates of this round that the server refused.
        shared: each client's accuracy, on validation examples like its own that it does not train
            on, with the model that all share, (K,); only with a personal method.
        own: with its own model, of the first clients; the others have none yet.
        groups: the domain or convention of each client, (K,).
        settled: whether this is how the run ended.
    """

    round: int
    measures: Mapping[str, float]
    bytes_up: int = 0
    bytes_down: int = 0
    dense_bytes_up: int = 0
    updates: int = 0
    seconds: float = 0.0
    left_out: int = 0
    shared: tuple[float, ...] = ()
    own: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()
    settled: bool = False

    @property
    def score(self) -> float:
        """The objective's measure."""
        return next(iter(self.measures.values()))

    @property
    def total_bytes(self) -> int:
        """Sent so far, both ways."""
        return self.bytes_up + self.bytes_down

    @property
    def factor(self) -> float:
        """How many times fewer the bytes up are than dense ones; 1 before any are sent."""
        return self.dense_bytes_up / self.bytes_up if self.bytes_up else 1.0

    @property
    def kilobytes(self) -> float:
        """Sent by one client in one round, on average."""
        return self.bytes_up / max(1, self.updates) / 1e3


@dataclass(frozen=True)
class Recipe:
    """All that decides a run. What does not apply becomes None, so that equal runs are equal.

    Args:
        strategy, parameters, server_rate: a name in the registry of strategies (None: "fedavg", or
            "rowwise" with a personal method), its own numbers as a dictionary, and the learning
            rate of its server step; those left out are as in the registry.
        optimizer, lr, epochs: of the clients: a name in `LOCAL`, its learning rate (None: as
            there), local epochs a round.
        partition, alpha: how examples are dealt to clients, a name in `task.DEALS` or, with a
            personal method, in `members.PARTITIONS`; of a Dirichlet partition, the smaller, the
            more clients differ (None: 0.5, or 0.3 with a personal method).
        clients, cohort, rounds: how many there are, how many train in each round, and how often.
        attackers, attack: share of the clients that are hostile, and what they do, a name in
            `attacks.STRENGTHS` (None: "sign").
        seed: decides the first weights, the partition, the cohorts and the attackers.
        keep, amount, write, squeeze, feedback, momentum: as in `codecs.make_codec`;
            amount None: the usual one.
        method, number: a personal method, a name in `methods.METHODS` (None: one model for all),
            and the number it is tuned by (None: the middle of those worth trying).
        cell, pooling, embedding, hidden, dropout: of the model: a name in `LAYERS`; "mean" or
            "last"; length of a word's vector; size of the recurrent state; share of values dropped
            while training, in [0, 1).

    Raises:
        ValueError: a name is not among those, or a personal method is combined with what its
            federation does not offer. Numbers are looked at by `problem`.
    """

    strategy: str | None = None
    parameters: Any = ()
    server_rate: float | None = None
    optimizer: str = "adam"
    lr: float | None = None
    epochs: int = 1
    partition: str = "dirichlet"
    alpha: float | None = None
    clients: int = 20
    cohort: int = 10
    attackers: float = 0.0
    attack: str | None = None
    rounds: int = 15
    seed: int = 0
    keep: str = "touched_rows"
    amount: float | None = None
    write: str | None = None
    squeeze: int | None = None
    feedback: bool = False
    momentum: float = 0.0
    method: str | None = None
    number: float | None = None
    cell: str = "lstm"
    pooling: str = "mean"
    embedding: int = 64
    hidden: int = 64
    dropout: float = 0.3

    def __post_init__(self):
        usual = "rowwise" if self.method else "fedavg"
        object.__setattr__(self, "strategy", self.strategy or usual)
        _require_accepted(self)
        entry = STRATEGIES[self.strategy]
        fixed = entry.server_rate is None
        dirichlet = self.partition in DEALS and DEALS[self.partition].uses_alpha
        tries = METHODS[self.method].tries if self.method else ()
        settled = {
            "parameters": entry.settled(dict(self.parameters)),
            "server_rate": None if fixed else _or(self.server_rate, entry.server_rate),
            "lr": _or(self.lr, LOCAL[self.optimizer].lr),
            "alpha": _or(self.alpha, 0.3 if self.method else 0.5) if dirichlet else None,
            "attack": (self.attack or "sign") if self.attackers else None,
            "number": _or(self.number, tries[len(tries) // 2]) if tries else None,
            **codecs.settled({name: getattr(self, name) for name in codecs.PARTS}),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    def settings(self) -> dict[str, Any]:
        """Return each setting by its name, the parameters as one string."""
        own = ", ".join(f"{name}={value:g}" for name, value in self.parameters)
        return asdict(self) | {"parameters": own}

    def to_json(self) -> str:
        """Return the settings as JSON; an infinite number is written as "inf"."""
        values = asdict(self) | {"parameters": dict(self.parameters)}
        plain = {name: "inf" if value == inf else value for name, value in values.items()}
        return json.dumps(plain, default=lambda number: number.item())

    @classmethod
    def from_json(cls, written: str) -> "Recipe":
        """Return the settings that `to_json` wrote.

        Raises:
            ValueError: a key is unknown or missing, or a value is not accepted.
        """
        try:
            values, names = json.loads(written), {each.name for each in fields(cls)}
            odd = sorted(values.keys() ^ names)
            require(not odd, "keys", odd, "neither unknown nor missing ones")
            return cls(**{name: inf if value == "inf" else value for name, value in values.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"recipe: not the JSON of one: {error}"[:500]) from error

    def new_strategy(self) -> Strategy:
        """Return the strategy. Raises ValueError: a parameter is out of range."""
        return make_strategy(self.strategy, dict(self.parameters), self.lr, self.server_rate)

    @property
    def least_cohort(self) -> int:
        """The least cohort with which the strategy works. Raises ValueError: a parameter is out of
        range."""
        return least_cohort(self.new_strategy().combine)

    def plan(self) -> Plan:
        """Return the plan. Raises ValueError: a number is out of range."""
        local = replace(LOCAL[self.optimizer], lr=self.lr, epochs=self.epochs)
        return Plan(self.rounds, self.cohort, local, self.seed)

    def new_codec(self) -> Codec:
        """Return the codec. Raises ValueError: a number is out of range."""
        return codecs.make_codec(**{name: getattr(self, name) for name in codecs.PARTS})

    def model_options(self, classes: int = 2) -> dict[str, Any]:
        """Return the arguments of `SentimentLSTM` beside the number of words."""
        sizes = {"embedding_dim": self.embedding, "hidden_size": self.hidden}
        own = {name: getattr(self, name) for name in ("cell", "pooling", "dropout", "seed")}
        return sizes | own | {"num_classes": classes}

    def new_model(self, task: Task) -> SentimentLSTM:
        """Return the untrained model for a task. Raises ValueError: a size is out of range."""
        classes = len(getattr(task, "classes", ())) or 2
        return SentimentLSTM(len(task.vocab), **self.model_options(classes))

    def hostile(self) -> tuple[int, ...]:
        """Return the clients that attack. Raises ValueError: the share is not in [0, 1], or is
        less than one client."""
        chosen = attacks.choose(self.clients, self.attackers, numpy_rng(self.seed, "attackers"))
        enough = f"at least one of {self.clients} clients, or 0"
        require(chosen or not self.attackers, "attackers", self.attackers, enough)
        return chosen

    def deal(self, task: Task) -> Parts:
        """Return each client's indices. Raises ValueError: they cannot be dealt like that."""
        rng = numpy_rng(self.seed, "partition")
        return task.deal(self.partition, self.clients, rng, self.alpha)

    def federation(self, task: Task) -> Federation:
        """Return the common ground of personal methods; the task's test examples stay unseen.
        Raises ValueError: the examples cannot be dealt like that."""
        more = {} if self.alpha is None else {"alpha": self.alpha}
        ours, _ = members.deal(
            task, self.partition, self.seed, clients=self.clients, asks="validation", **more
        )
        return Federation(ours, len(task.vocab), self.plan(), every=2, strategy=self.new_strategy())

    def problem(self, task: Task) -> tuple[str, str] | None:
        """Return what cannot be run ("partition", "plan", …) and why; None if all can."""
        trials = {
            "partition": lambda: self.federation(task) if self.method else self.deal(task),
            "plan": lambda: sample_cohort(self.plan(), 1, self.clients),
            "strategy": self.new_strategy,
            "cohort": lambda: require_cohort(self.new_strategy().combine, self.cohort),
            "model": lambda: self.new_model(task),
            "codec": lambda: Clients(
                self.new_model(task), (), self.new_strategy(), self.plan(), self.new_codec()
            ),
            "attackers": self.hostile,
        }
        for part, trial in trials.items():
            try:
                trial()
            except ValueError as error:
                return part, str(error)
        return None

    def results(
        self,
        task: Task,
        *,
        stop: threading.Event | None = None,
        on_client: Callable[[int], None] | None = None,
        federations: MutableMapping["Recipe", Federation] | None = None,
    ) -> Iterator[Result]:
        """Run, and yield where the run stands: untrained, then after each round.

        With a personal method: first the shared model, every other round, then each client's own.

        Args:
            task: clients train on its training part; models are evaluated on its validation part.
            stop: once set, the run ends between two batches.
            on_client: called with each client that has trained, in its thread; not with a
                personal method.
            federations: those made before on this task: their shared model is not trained again.
        """
        if self.method:
            return self._personal(task, stop, {} if federations is None else federations)
        return self._federated(task, stop, on_client)

    def run(self, task: Task, **options: Any) -> tuple[Result, ...]:
        """Return all that `results` yields."""
        return tuple(self.results(task, **options))

    def _federated(self, task, stop, on_client) -> Iterator[Result]:
        clients = task.clients(self.deal(task))
        clients, transforms = attacks.attacked(clients, self.hostile(), self.attack)
        if on_client:
            transforms = (*transforms, _Ticking(on_client))
        model, names = self.new_model(task), (task.validation.objective.measure, "loss")
        untrained, dense = evaluate(model, task.validation), dense_size(model)
        result = Result(0, {name: untrained[name] for name in names})
        yield result
        options = {"test": task.validation, "transforms": transforms, "stop": stop}
        options["codec"] = self.new_codec()
        for record in rounds(model, clients, self.new_strategy(), self.plan(), **options):
            refused = [why.startswith(RefusedUpdate.__name__) for why in record.left_out.values()]
            sent = len(record.client_losses) + sum(refused)  # the others could send nothing
            result = Result(
                record.round,
                {name: record.metrics[name] for name in names},
                result.bytes_up + record.bytes_up,
                result.bytes_down + record.bytes_down,
                result.dense_bytes_up + sent * dense,
                result.updates + sent,
                result.seconds + record.seconds,
                len(record.left_out),
                settled=record.round == self.rounds,
            )
            yield result

    def _personal(self, task, stop, federations) -> Iterator[Result]:
        common = replace(self, method="shared", number=None)
        if common not in federations:
            federations[common] = self.federation(task)
        federation, last = replace(federations[common], stop=stop), None
        try:
            if federation.known is None:
                for at, weights in federation.make_shared():
                    yield _shared_result(federation, at, weights)
            for snapshot in METHODS[self.method].snapshots(federation, self.number or 0.0):
                at, up = snapshot.round, snapshot.bytes_up
                shared, own = _shared_result(federation, at, federation.shared[at][0]), ()
                shared = replace(shared, bytes_up=up, bytes_down=snapshot.total_bytes - up)
                for score in federation.scores(snapshot.answer):
                    own = (*own, score)
                    last = replace(shared, own=own)
                    if len(own) == len(shared.shared):
                        last = replace(last, measures={"accuracy": mean(own)})
                    yield last
            if last:
                yield replace(last, settled=True)
        except Stopped:
            return


def _or(value: float | None, usual: float | None) -> float | None:
    return usual if value is None else value


def _require_accepted(recipe: Recipe) -> None:
    accepted = {
        "method": [None, *METHODS],
        "strategy": STRATEGIES,
        "optimizer": LOCAL,
        "partition": members.PARTITIONS if recipe.method else DEALS,
        "attack": [None, *attacks.STRENGTHS],
        "keep": codecs.LOSSLESS | codecs.KEEPS,
        "write": [None, *codecs.WRITES],
        "cell": LAYERS,
        "pooling": POOLINGS,
    }
    which = ""
    if recipe.method:
        accepted, which = accepted | _WITH_METHOD, " with a personal method"
        require(recipe.rounds >= 4, "rounds", recipe.rounds, f"at least 4{which}")
    for name, values in accepted.items():
        value = getattr(recipe, name)
        require(value in values, name, value, f"one of {sorted(values, key=str)}{which}")


@dataclass(frozen=True)
class _Ticking:
    """A transform that changes nothing and says that a client has trained."""

    tick: Callable[[int], None]
    covers_extra = True

    def __call__(self, update, kept, rng):
        self.tick(update.client)
        return update, kept


def _shared_result(federation: Federation, at: int, weights: State) -> Result:
    """Return how the model that all share does for each client."""
    ours, scores = federation.members, federation.shared_scores(at, weights)
    groups = tuple(m.domain if m.convention == "sentiment" else m.convention for m in ours)
    return Result(at, {"accuracy": mean(scores)}, shared=scores, groups=groups)
