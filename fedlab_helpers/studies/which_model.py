"""Which model should one federate? Layers that read, and models that are sums, on three tasks.

Every network has the same six learning rates to choose from, in one place and federated, chosen on
validation with another seed; a model of sums has six values of its own number. The test is looked
at by what is chosen only.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd
import torch
from torch import nn

from fedlab_helpers import strategies
from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, judged, train
from fedlab_helpers.studies import by_sums, study
from fedlab_helpers.studies.plain_models import Judge
from fedlab_helpers.studies.study import Row, Settings, Study, task
from fedlab_helpers.tasks import glucose, next_word
from fedlab_helpers.tasks.layers import LAYERS
from fedlab_helpers.tasks.owners import Owner, score, together
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.series import SeriesRNN

TUNING_SEED = 100
NETWORKS = tuple(LAYERS)
RATES = (1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)


@dataclass(frozen=True)
class Field:
    """A task, as all models meet it.

    Args:
        owners: seed -> who holds what; of whom several may share a validation set or a test.
        new_model: layer, seed -> the untrained network.
        sums: name of the model that is made of sums, with the values of its number; clients and
            number -> the model as it gets better, each after one exchange with all clients.
        target: of the measure, on validation: bytes are counted until it is reached.
        batch, epochs: in one place; a client's batch is half as large.
        rounds, cohort, local_epochs: of the federation.
    """

    owners: Callable[[int], Sequence[Owner]]
    new_model: Callable[[str, int], nn.Module]
    sums: tuple[str, tuple[float, ...], Callable[[list[Examples], float], Iterable[by_sums.Fitted]]]
    target: float
    batch: int
    epochs: int
    rounds: int
    cohort: int
    local_epochs: int = 1


def _reviewers(seed: int) -> list[Owner]:
    """Return 20 clients whose shares of praise differ; all are judged on the same reviews."""
    parts = task().deal("dirichlet", 20, numpy_rng(seed, "partition"), 0.5)
    both = task().validation, task().test
    return [Owner(f"{k}", own, *both) for k, own in enumerate(task().clients(parts))]


def _review_model(layer: str, seed: int) -> nn.Module:
    pooling = "last" if layer == "bag" else "mean"
    return SentimentLSTM(len(task().vocab), cell=layer, pooling=pooling, dropout=0.3, seed=seed)


FIELDS = {
    "reviews": Field(
        _reviewers,
        _review_model,
        (
            "tfidf",
            (0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
            lambda clients, number: by_sums.tfidf_logistic(clients, number, len(task().vocab), 20),
        ),
        target=0.80,
        batch=32,
        epochs=6,
        rounds=15,
        cohort=10,
    ),
    "words": Field(
        lambda seed: next_word.keyboards(task(), seed=seed),
        lambda layer, seed: next_word.TiedLSTM(next_word.WORDS, cell=layer, seed=seed),
        (
            "trigram",
            (0.5, 0.65, 0.75, 0.85, 0.9, 0.97),
            lambda clients, number: [by_sums.trigram(clients, number, next_word.WORDS)],
        ),
        target=0.10,
        batch=32,
        epochs=10,
        rounds=20,
        cohort=10,
        local_epochs=2,
    ),
    "glucose": Field(
        lambda seed: glucose.glucose(),
        lambda layer, seed: SeriesRNN(4, 32, cell=layer, each_step=True, seed=seed),
        (
            "ridge",
            (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
            lambda clients, number: [by_sums.ridge(clients, number)],
        ),
        target=11.9,
        batch=16,
        epochs=30,
        rounds=40,
        cohort=10,
        local_epochs=2,
    ),
}
# The best numbers on validation, by `best_numbers` from the table of the study "which_…_rates".
CHOSEN: dict[tuple[str, str, str], float] = {
    ("reviews", "tfidf", "sums"): 1,
    ("reviews", "lstm", "centralised"): 0.005,
    ("reviews", "lstm", "federated"): 0.01,
    ("reviews", "gru", "centralised"): 0.01,
    ("reviews", "gru", "federated"): 0.01,
    ("reviews", "rnn", "centralised"): 0.01,
    ("reviews", "rnn", "federated"): 0.02,
    ("reviews", "mingru", "centralised"): 0.0025,
    ("reviews", "mingru", "federated"): 0.01,
    ("reviews", "transformer", "centralised"): 0.01,
    ("reviews", "transformer", "federated"): 0.005,
    ("reviews", "bag", "centralised"): 0.02,
    ("reviews", "bag", "federated"): 0.01,
    ("words", "trigram", "sums"): 0.9,
    ("words", "lstm", "centralised"): 0.005,
    ("words", "lstm", "federated"): 0.02,
    ("words", "gru", "centralised"): 0.01,
    ("words", "gru", "federated"): 0.02,
    ("words", "rnn", "centralised"): 0.005,
    ("words", "rnn", "federated"): 0.01,
    ("words", "mingru", "centralised"): 0.01,
    ("words", "mingru", "federated"): 0.02,
    ("words", "transformer", "centralised"): 0.0025,
    ("words", "transformer", "federated"): 0.005,
    ("words", "bag", "centralised"): 0.001,
    ("words", "bag", "federated"): 0.04,
    ("glucose", "ridge", "sums"): 0.01,
    ("glucose", "lstm", "centralised"): 0.01,
    ("glucose", "lstm", "federated"): 0.04,
    ("glucose", "gru", "centralised"): 0.005,
    ("glucose", "gru", "federated"): 0.01,
    ("glucose", "rnn", "centralised"): 0.01,
    ("glucose", "rnn", "federated"): 0.0025,
    ("glucose", "mingru", "centralised"): 0.02,
    ("glucose", "mingru", "federated"): 0.04,
    ("glucose", "transformer", "centralised"): 0.005,
    ("glucose", "transformer", "federated"): 0.02,
    ("glucose", "bag", "centralised"): 0.005,
    ("glucose", "bag", "federated"): 0.0025,
}


@cache
def owners_of(name: str, seed: int) -> tuple[Owner, ...]:
    """Return who holds what in a task, dealt by this seed."""
    return tuple(FIELDS[name].owners(seed))


def judged_on(name: str, seed: int, part: str, judge: Judge) -> dict[str, float]:
    """Return the measures of one model, the mean over what owners ask ("validation" or "test");
    what several of them share is judged once."""
    owners = owners_of(name, seed)
    asked = [getattr(own, part) for own in owners]
    found = {id(data): judge(data) for data in {id(data): data for data in asked}.values()}
    return score(asked[0].objective, [found[id(data)] for data in asked])["own"]


@dataclass
class Course:
    """What became of one model: at its best on validation, and on the way there.

    Args:
        judge: examples -> how good it is, at its best.
        curve: the measure on validation after each epoch, round or exchange.
        megabytes: sent until then, both ways, by all clients; empty: nothing was sent.
        seconds: CPU time of training, of all clients.
        numbers, bytes_in_8_bits: what the model holds.
    """

    judge: Judge
    curve: list[float]
    megabytes: list[float]
    seconds: float
    numbers: int
    bytes_in_8_bits: int


def course(name: str, model: str, way: str, number: float, seed: int) -> Course:
    """Train a model in one way with this number; keep its best moment on validation."""
    if way == "sums":
        return _by_sums(name, number, seed)
    field = FIELDS[name]
    network = field.new_model(model, seed)
    steps = _federated if way == "federated" else _centralised
    best, weights, curve, sent, spent = float("inf"), None, [], [], 0.0
    moments = steps(field, owners_of(name, seed), network, number, seed)
    while True:
        began = time.process_time()
        try:
            megabytes = next(moments)
        except StopIteration:
            break
        spent += time.process_time() - began
        found = judged_on(name, seed, "validation", lambda data: judged(network, data))
        curve.append(found[_measure(name, seed)])
        sent.append(megabytes)
        if found["loss"] < best:
            best, weights = found["loss"], of_model(network)
    network.load_state_dict(weights)
    size = len(make_codec("everything", write="bits8").encode(weights, torch.Generator()))
    held = sum(tensor.numel() for tensor in weights.values())
    return Course(lambda data: judged(network, data), curve, sent, spent, held, size)


def _measure(name: str, seed: int) -> str:
    return owners_of(name, seed)[0].test.objective.measure


def _centralised(field: Field, owners: Sequence[Owner], network: nn.Module, lr: float, seed: int):
    data, local = together([own.train for own in owners]), LocalConfig(1, field.batch, lr)
    for epoch in range(field.epochs):
        train(network, data, local, seed=child_seed(seed, "epoch", epoch))
        yield 0.0


def _federated(field: Field, owners: Sequence[Owner], network: nn.Module, lr: float, seed: int):
    local = LocalConfig(field.local_epochs, field.batch // 2, lr)
    plan = Plan(field.rounds, min(field.cohort, len(owners)), local, seed, workers=1)
    clients, sent = [own.train for own in owners], 0
    for record in rounds(network, clients, strategies.fedavg(), plan):
        sent += record.bytes_up + record.bytes_down
        yield sent / 1e6


def _by_sums(name: str, number: float, seed: int) -> Course:
    """As `course`, of the task's model that is made of sums."""
    _, _, fit = FIELDS[name].sums
    best, kept, curve, sent = float("inf"), None, [], [0.0]
    began = time.process_time()
    fitted = list(fit([own.train for own in owners_of(name, seed)], number))
    spent = time.process_time() - began
    for made in fitted:
        found = judged_on(name, seed, "validation", made.judges)
        curve.append(found[_measure(name, seed)])
        sent.append(sent[-1] + (made.bytes_up + made.bytes_down) / 1e6)
        if found["loss"] < best:
            best, kept = found["loss"], made
    return Course(kept.judges, curve, sent[1:], spent, kept.numbers, kept.bytes_held)


def measure_try(name: str, settings: Settings) -> list[Row]:
    """Return the merit of one number on validation, larger is better."""
    model, way, number, seed = (settings[key] for key in ("model", "way", "number", "seed"))
    up = owners_of(name, seed)[0].test.objective.higher_is_better
    found = judged_on(name, seed, "validation", course(name, model, way, number, seed).judge)[
        _measure(name, seed)
    ]
    return [study.rounded(merit=found if up else -found)]


def measure_which(name: str, settings: Settings) -> list[Row]:
    """Return the score of one model on the test, and what it cost.

    "reached" is the epoch, round or exchange in which the target was met on validation, and
    "megabytes" what all clients had sent by then, both ways; empty: it was not met.
    """
    model, way, seed = (settings[key] for key in ("model", "way", "seed"))
    number = CHOSEN[name, model, way]
    made = course(name, model, way, number, seed)
    found = judged_on(name, seed, "test", made.judge)
    measure, up = _measure(name, seed), owners_of(name, seed)[0].test.objective.higher_is_better
    target = FIELDS[name].target
    met = [at for at, value in enumerate(made.curve) if (value >= target) == up or value == target]
    told = {"number": number, "measure": measure, "target": target}
    told |= study.rounded(score=found[measure], loss=found["loss"])
    told |= {"reached": met[0] + 1 if met else "", "numbers": made.numbers}
    told["megabytes"] = round(made.megabytes[met[0]], 3) if met and made.megabytes[-1] else ""
    told |= {"all_megabytes": round(made.megabytes[-1], 3), "seconds": round(made.seconds, 1)}
    curve = " ".join(f"{value:.4f}" for value in made.curve)
    return [told | {"bytes_in_8_bits": made.bytes_in_8_bits, "curve": curve}]


def _ways(name: str) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return for each model and way of a task the numbers that are tried."""
    own, numbers, _ = FIELDS[name].sums
    ways = {(model, way): RATES for model in NETWORKS for way in ("centralised", "federated")}
    return {(own, "sums"): numbers} | ways


def best_numbers(name: str, table: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Return what did best in the table of a task's rates."""
    won = study.best(table, ["model", "way"], ["number"])
    return {(name, *of): number for of, (number,) in won.items()}


def _rates(name: str) -> Study:
    runs = (
        {"model": model, "way": way, "number": number, "seed": TUNING_SEED}
        for (model, way), numbers in _ways(name).items()
        for number in numbers
    )
    return Study(f"which_{name}_rates", tuple(runs), partial(measure_try, name))


def _table(name: str) -> Study:
    runs = ({"model": m, "way": way, "seed": seed} for m, way in _ways(name) for seed in range(3))
    return Study(f"which_{name}", tuple(runs), partial(measure_which, name))


WHICH_REVIEWS_RATES, WHICH_REVIEWS = _rates("reviews"), _table("reviews")
WHICH_WORDS_RATES, WHICH_WORDS = _rates("words"), _table("words")
WHICH_GLUCOSE_RATES, WHICH_GLUCOSE = _rates("glucose"), _table("glucose")
