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
from typing import Any, NamedTuple

import torch

from fedlab_helpers import compression as comp
from fedlab_helpers.core import wire
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.messages import Codec, Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds, sample_cohort
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy, require_cohort
from fedlab_helpers.core.training import LocalConfig, Stopped, evaluate
from fedlab_helpers.personal import members
from fedlab_helpers.personal.federation import Answer, Federation
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.strategies import attacks
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.model import CELLS, POOLINGS, SentimentLSTM
from fedlab_helpers.tasks.reviews.task import DEALS, Task

# Rates in the middle of those that strategies were tuned to: `studies.aggregation.CHOSEN`.
LOCAL = {
    "adam": LocalConfig(lr=2e-2),
    "sgd": LocalConfig(lr=1.0, optimizer="sgd", max_grad_norm=None),
}
LOSSLESS = {"touched_rows": wire.touched_rows, "dense": wire.dense}
KEEPS = {  # what else may be sent of a change -> the usual amount of it; None: there is no choice
    "everything": None,
    "topk": 0.01,
    "randomk": 0.01,
    "lowrank": 1,
    "sketch": 0.05,
}
WRITES = {
    "float32": comp.Float32(),
    "float16": comp.Float16(),
    "bfloat16": comp.Float16(brain=True),
    "bits8": comp.Quantized(8),
    "bits4": comp.Quantized(4),
    "bits2": comp.Quantized(2),
    "ternary": comp.Ternary(),
    "signs": comp.Sign(),
}
CODEC_PARTS = ("keep", "amount", "write", "squeeze", "feedback", "momentum")
# What a personal method's federation does not offer.
_WITH_METHOD = {
    "strategy": "rowwise", "server_rate": 1.0, "attackers": 0, "keep": "touched_rows",
    "cell": "lstm", "pooling": "mean", "embedding": 64, "hidden": 64, "dropout": 0.3,
}  # fmt: skip


class Measure(NamedTuple):
    """What models of a task are judged by: its name, and whether more of it is better."""

    name: str = "accuracy"
    higher_is_better: bool = True


def measure_of(task: Task) -> Measure:
    """Return the first measure of the task's objective; accuracy where it has none."""
    objective = getattr(task.validation, "objective", None)
    return Measure(objective.measure, objective.higher_is_better) if objective else Measure()


def feeds_back(keep: str, write: str | None) -> bool:
    """Return whether error feedback makes sense: not where more may be lost than there was."""
    return keep in KEEPS and keep != "sketch" and write != "ternary"


def make_strategy(
    name: str,
    parameters: Mapping[str, float],
    client_rate: float,
    server_rate: float | None = None,
) -> Strategy:
    """Return a strategy of the registry; what is not given is as the registry has it.

    Args:
        name: in the registry.
        parameters: its own.
        client_rate: the clients' learning rate, for a strategy whose step depends on it.
        server_rate: learning rate of the server's step.

    Raises:
        ValueError: a parameter is out of range, or the strategy has none of this name.
    """
    entry, given = STRATEGIES[name], dict(parameters)
    if entry.knows_client_rate:
        given.setdefault("lr", client_rate)
    if server_rate is not None:
        given["server_rate"] = server_rate
    return entry.build(**given)


def make_codec(
    keep: str = "touched_rows",
    amount: float | None = None,
    write: str | None = None,
    squeeze: int | None = None,
    feedback: bool = False,
    momentum: float = 0.0,
) -> Codec:
    """Return the codec of these parts, which are as in `Recipe`.

    Raises:
        ValueError: a number is out of range.
    """
    if keep in LOSSLESS:
        return LOSSLESS[keep]()
    make: dict[str, Callable] = {
        "everything": comp.Everything,
        "topk": lambda: comp.TopK(amount),
        "randomk": lambda: comp.RandomK(amount, scaled=not feedback),
        "lowrank": lambda: comp.LowRank(amount),
        "sketch": lambda: comp.CountSketch(amount),
    }
    values = WRITES[write or "float32"]
    if feedback and isinstance(values, comp.Quantized):
        values = replace(values, stochastic=False)  # with feedback, nearest loses least
    codec = comp.Compressed(make[keep](), values, squeeze)
    return comp.WithFeedback(codec, momentum) if feedback else codec


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
        strategy: a name in the registry of strategies; None: "fedavg", or "rowwise" with a
            personal method.
        parameters: its own, as a dictionary; those left out are as in the registry.
        server_rate: learning rate of the server's step; None: as in the registry.
        optimizer: of the clients, a name in `LOCAL`.
        lr: the clients' learning rate; None: as in `LOCAL`.
        epochs: local epochs a round.
        partition: how examples are dealt to clients, a name in `task.DEALS`; with a personal
            method, in `members.PARTITIONS`.
        alpha: of a Dirichlet partition, the smaller, the more clients differ; None: 0.5, or 0.3
            with a personal method.
        clients: how many.
        cohort: how many of them train in each round.
        attackers: share of the clients that are hostile.
        attack: what those do, a name in `attacks.STRENGTHS`; None: "sign".
        rounds: how many.
        seed: decides the first weights, the partition, the cohorts and the attackers.
        keep: what is sent of a change: "touched_rows" or "dense", nothing lost, or a name in
            `KEEPS`.
        amount: share of the values, or rank; None: as in `KEEPS`.
        write: how each value is written, a name in `WRITES`; None: float32.
        squeeze: level of Zstandard over the packed bytes, 1 to 22; None: not squeezed.
        feedback: clients keep what was lost; values are then rounded to the nearest, not at random.
        momentum: of DGC, 0.9; with the largest values and feedback only.
        method: a personal method, a name in `methods.METHODS`; None: one model for all.
        number: the one it is tuned by; None: the middle of those worth trying.
        cell: of the model, "lstm", "gru" or "rnn".
        pooling: "mean" or "last".
        embedding: length of a word's vector.
        hidden: size of the recurrent state.
        dropout: share of values dropped while training, in [0, 1).

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
        _require_names(self)
        entry, given = STRATEGIES[self.strategy], dict(self.parameters)
        own = {parameter.name: parameter.default for parameter in entry.parameters}
        if odd := sorted(given.keys() - own.keys()):
            raise ValueError(f"parameters: got {odd}, {self.strategy} has {sorted(own)}")
        rate = entry.server_rate if self.server_rate is None else self.server_rate
        alpha = (0.3 if self.method else 0.5) if self.alpha is None else self.alpha
        uses_alpha = self.partition in DEALS and DEALS[self.partition].uses_alpha
        settled = {
            "parameters": tuple((own | given).items()),
            "server_rate": None if entry.server_rate is None else rate,
            "lr": LOCAL[self.optimizer].lr if self.lr is None else self.lr,
            "alpha": alpha if uses_alpha else None,
            "attack": (self.attack or "sign") if self.attackers else None,
            "number": _number(self),
            **_codec_parts(self),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        if self.method:
            _require_usual(self)

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
            values = json.loads(written)
            odd, lost = values.keys() - _NAMES, _NAMES - values.keys()
            if odd or lost:
                raise ValueError(f"unknown keys {sorted(odd)}, missing keys {sorted(lost)}")
            return cls(**{name: inf if value == "inf" else value for name, value in values.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"recipe: not the JSON of one: {error}"[:500]) from error

    def new_strategy(self) -> Strategy:
        """Return the strategy. Raises ValueError: a parameter is out of range."""
        return make_strategy(self.strategy, dict(self.parameters), self.lr, self.server_rate)

    def plan(self) -> Plan:
        """Return the plan. Raises ValueError: a number is out of range."""
        local = replace(LOCAL[self.optimizer], lr=self.lr, epochs=self.epochs)
        return Plan(self.rounds, self.cohort, local, self.seed)

    def new_codec(self) -> Codec:
        """Return the codec. Raises ValueError: a number is out of range."""
        return make_codec(**{name: getattr(self, name) for name in CODEC_PARTS})

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
        """Return the clients that attack.

        Raises:
            ValueError: the share is not in [0, 1], or is less than one client.
        """
        rng = numpy_rng(self.seed, "attackers")
        chosen = attacks.choose(self.clients, self.attackers, rng)
        if self.attackers and not chosen:
            raise ValueError(
                f"attackers: {self.attackers:.0%} of {self.clients} clients is less than one; "
                "choose a larger share or more clients, or 0"
            )
        return chosen

    def deal(self, task: Task) -> Parts:
        """Return each client's indices. Raises ValueError: they cannot be dealt like that."""
        rng = numpy_rng(self.seed, "partition")
        return task.deal(self.partition, self.clients, rng, self.alpha)

    def federation(self, task: Task) -> Federation:
        """Return the common ground of personal methods; the task's test examples stay unseen.

        Raises:
            ValueError: the examples cannot be dealt like that.
        """
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
            "codec": self.new_codec,
            "model": lambda: self.new_model(task),
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
            return _personal_results(self, task, stop, {} if federations is None else federations)
        return _federated_results(self, task, stop, on_client)

    def run(self, task: Task, **options: Any) -> tuple[Result, ...]:
        """Return all that `results` yields."""
        return tuple(self.results(task, **options))


_NAMES = {each.name for each in fields(Recipe)}


def _require_names(recipe: Recipe) -> None:
    known = {
        "strategy": STRATEGIES,
        "optimizer": LOCAL,
        "partition": members.PARTITIONS if recipe.method else DEALS,
        "keep": LOSSLESS | KEEPS,
        "write": {None, *WRITES},
        "method": {None, *METHODS},
        "cell": CELLS,
        "pooling": POOLINGS,
    }
    if recipe.attackers:
        known["attack"] = {None, *attacks.STRENGTHS}
    for name, names in known.items():
        if (value := getattr(recipe, name)) not in names:
            accepted = sorted(names, key=str)
            raise ValueError(f"{name}: got {value!r}, expected one of {accepted}")


def _require_usual(recipe: Recipe) -> None:
    for name, usual in _WITH_METHOD.items():
        if (value := getattr(recipe, name)) != usual:
            raise ValueError(f"{name}: got {value!r}, expected {usual!r} with a personal method")
    if recipe.rounds < 4:
        raise ValueError(f"rounds: got {recipe.rounds}, expected at least 4 with a personal method")


def _codec_parts(recipe: Recipe) -> dict[str, Any]:
    """Return the parts of the codec, each None, False or 0 where it does not apply."""
    if recipe.keep in LOSSLESS:
        return dict.fromkeys(("amount", "write", "squeeze")) | {"feedback": False, "momentum": 0.0}
    usual, write = KEEPS[recipe.keep], recipe.write or "float32"
    amount = usual if usual is None or recipe.amount is None else recipe.amount
    feedback = bool(recipe.feedback) and feeds_back(recipe.keep, write)
    momentum = recipe.momentum if feedback and recipe.keep == "topk" else 0.0
    return {"amount": amount, "write": write, "feedback": feedback, "momentum": momentum}


def _number(recipe: Recipe) -> float | None:
    tries = METHODS[recipe.method].tries if recipe.method else ()
    if not tries:
        return None
    return tries[len(tries) // 2] if recipe.number is None else recipe.number


def _federated_results(
    recipe: Recipe,
    task: Task,
    stop: threading.Event | None,
    on_client: Callable[[int], None] | None,
) -> Iterator[Result]:
    hostile = recipe.hostile()
    clients, transforms = attacks.attacked(task.clients(recipe.deal(task)), hostile, recipe.attack)
    if on_client:
        transforms = (*transforms, _Ticking(on_client))
    model, names = recipe.new_model(task), (measure_of(task).name, "loss")
    untrained = evaluate(model, task.validation)
    result = Result(0, {name: getattr(untrained, name) for name in names})
    yield result
    dense = comp.dense_size(model)
    options = {"test": task.validation, "transforms": transforms, "stop": stop}
    options["codec"] = recipe.new_codec()
    strategy, plan = recipe.new_strategy(), recipe.plan()
    for record in rounds(model, clients, strategy, plan, **options):
        sent = len(record.client_losses)
        result = Result(
            record.round,
            {name: record.metrics[name] for name in names},
            result.bytes_up + record.bytes_up,
            result.bytes_down + record.bytes_down,
            result.dense_bytes_up + sent * dense,
            result.updates + sent,
            result.seconds + record.seconds,
            len(record.left_out),
            settled=record.round == recipe.rounds,
        )
        yield result


@dataclass(frozen=True)
class _Ticking:
    """A transform that changes nothing and says that a client has trained."""

    covers_extra = True

    tick: Callable[[int], None]

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        self.tick(update.client)
        return update, kept


def _personal_results(
    recipe: Recipe,
    task: Task,
    stop: threading.Event | None,
    federations: MutableMapping[Recipe, Federation],
) -> Iterator[Result]:
    common = replace(recipe, method="shared", number=None)
    if common not in federations:
        federations[common] = recipe.federation(task)
    federation = replace(federations[common], stop=stop)
    everybody = range(len(federation.members))
    try:
        if federation.known is None:
            for at, weights in federation.make_shared():
                answer = federation.answer_of(weights)
                yield _standing(federation, at, [_score(federation, k, answer) for k in everybody])
        last = None
        for snapshot in METHODS[recipe.method].snapshots(federation, recipe.number or 0.0):
            answer = federation.answer_of(federation.shared[snapshot.round][0])
            shared, own = [_score(federation, k, answer) for k in everybody], []
            sent = {"bytes_up": snapshot.bytes_up}
            sent["bytes_down"] = snapshot.total_bytes - snapshot.bytes_up
            for client in everybody:
                federation.require_going_on()
                own.append(_score(federation, client, snapshot.answer(client)))
                last = _standing(federation, snapshot.round, shared, own, **sent)
                yield last
        if last:
            yield replace(last, settled=True)
    except Stopped:
        return


def _score(federation: Federation, client: int, answer: Answer) -> float:
    test = federation.members[client].test
    return test.accuracy(test.right(answer(test.data)))


def _standing(
    federation: Federation, at: int, shared: list[float], own: list[float] = (), **sent: int
) -> Result:
    groups = tuple(
        m.domain if m.convention == "sentiment" else m.convention for m in federation.members
    )
    measures = {"accuracy": mean(own if len(own) == len(shared) else shared)}
    more = {"shared": tuple(shared), "own": tuple(own), "groups": groups}
    return Result(at, measures, **sent, **more)
