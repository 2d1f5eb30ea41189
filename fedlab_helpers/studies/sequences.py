"""Other sequences than reviews: what is gained by a recurrent network, and by a federation.

Every way is measured on the same test of every owner, and every number is chosen on validation, of
six values each. Glucose and turbines are split in time, so that a seed decides weights and order
only; credit, ward and keyboards are dealt anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig, evaluate, judged
from fedlab_helpers.personal.fine_tuning import fine_tune
from fedlab_helpers.studies import plain_models as plain
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study
from fedlab_helpers.tasks import credit, glucose, next_word, turbines, ward
from fedlab_helpers.tasks.owners import Owner, score, together

TUNING_SEED = 100
WAYS = ("centralised", "alone", "federated", "fine-tuned")


@dataclass(frozen=True)
class Case:
    """One task as it is measured.

    Args:
        owners: seed -> who holds what.
        new_model: seed -> the untrained model.
        plain: name of a plain model -> (what fits it to examples, six values of its number).
        naive: examples -> what is answered without learning, (n,).
        by: "own", the mean over owners, or "pooled": which figure is the score.
        batch, epochs: of a centralised run; an owner's own has half the batch and as many epochs.
        rounds, cohort, local_epochs, strategy: of a federated run.
        rates: learning rates that are tried in all of them.
        tuning, tuning_rates: epochs of fine-tuning at most, and its rates.
        variants: name of another federated way -> what is different there; three rates are tried.
    """

    owners: Callable[[int], list[Owner]]
    new_model: Callable[[int], nn.Module]
    plain: dict[str, tuple[Callable[[Examples, float], plain.Judge], tuple[float, ...]]]
    naive: Callable[[Examples], np.ndarray] | None = None
    by: str = "own"
    batch: int = 16
    epochs: int = 20
    rounds: int = 24
    cohort: int = 10
    local_epochs: int = 2
    strategy: Strategy = field(default_factory=strategies.fedavg)
    rates: tuple[float, ...] = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
    tuning: int = 8
    tuning_rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)


_RIDGE = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_TREES = (0.01, 0.02, 0.03, 0.06, 0.1, 0.2)
_LOGISTIC = (0.1, 1.0, 10.0, 100.0, 1000.0, 1e4)
_DISCOUNTS = (0.5, 0.65, 0.75, 0.85, 0.9, 0.97)


def _tables(features: plain.Features, numbers: tuple[float, ...]) -> dict:
    kinds = {"linear": (plain.linear, numbers), "trees": (plain.trees, _TREES)}
    return {name: (plain.on_table(features, fit), tried) for name, (fit, tried) in kinds.items()}


def _pressure(data: Examples) -> np.ndarray:
    return -data.inputs[0].numpy()[plain.places(data)][:, 3]


_CURVE = plain.on_table(plain.turbine_features, plain.power_curve)
CASES = {
    "glucose": Case(
        lambda seed: glucose.glucose(),
        glucose.new_model,
        _tables(plain.glucose_features, _RIDGE),
        naive=lambda data: np.zeros(data.asked),
        epochs=40,
        rounds=48,
    ),
    "turbines": Case(
        lambda seed: turbines.turbines(),
        turbines.new_model,
        {"power curve": (_CURVE, (0.05, 0.1, 0.25, 0.5, 1.0, 2.0))}
        | _tables(plain.turbine_features, _RIDGE),
        epochs=25,
        rounds=25,
        local_epochs=1,
        tuning=4,
    ),
    "credit": Case(
        lambda seed: credit.credit(seed=seed),
        credit.new_model,
        _tables(plain.credit_features, _LOGISTIC),
        naive=lambda data: data.inputs[0][:, -1, 0].numpy(),
        by="pooled",
        batch=64,
        epochs=10,
        rounds=25,
        local_epochs=1,
        tuning=4,
    ),
    "keyboard": Case(
        lambda seed: next_word.keyboards(study.task(), seed=seed),
        lambda seed: next_word.TiedLSTM(next_word.WORDS, seed=seed),
        {
            "unigram": (partial(plain.ngram, 1), _DISCOUNTS[:1]),
            "trigram": (partial(plain.ngram, 3), _DISCOUNTS),
        },
        batch=32,
        epochs=20,
        rounds=36,
        tuning=4,
        variants={
            "row by row": {"strategy": strategies.rowwise()},
            "whole table": {
                "new_model": lambda seed: next_word.TiedLSTM(
                    next_word.WORDS, own_words=False, seed=seed
                )
            },
        },
    ),
    "ward": Case(
        lambda seed: ward.ward(seed=seed),
        ward.new_model,
        _tables(plain.ward_features, _LOGISTIC),
        naive=_pressure,
        by="pooled",
        rounds=20,
        local_epochs=1,
        tuning=5,
    ),
}


# Each way's number, by the study "sequences_rates"; the best on validation, of another seed.
CHOSEN: dict[tuple[str, str], float] = {
    ("glucose", "centralised"): 0.0025,
    ("glucose", "alone"): 0.01,
    ("glucose", "federated"): 0.02,
    ("glucose", "fine-tuned"): 0.02,
    ("glucose", "linear"): 0.01,
    ("glucose", "linear alone"): 0.1,
    ("glucose", "trees"): 0.06,
    ("glucose", "trees alone"): 0.01,
    ("turbines", "centralised"): 0.02,
    ("turbines", "alone"): 0.01,
    ("turbines", "federated"): 0.04,
    ("turbines", "fine-tuned"): 0.001,
    ("turbines", "power curve"): 0.05,
    ("turbines", "power curve alone"): 0.05,
    ("turbines", "linear"): 1000,
    ("turbines", "linear alone"): 1000,
    ("turbines", "trees"): 0.06,
    ("turbines", "trees alone"): 0.06,
    ("keyboard", "centralised"): 0.005,
    ("keyboard", "alone"): 0.02,
    ("keyboard", "federated"): 0.01,
    ("keyboard", "fine-tuned"): 0.001,
    ("keyboard", "row by row"): 0.005,
    ("keyboard", "whole table"): 0.01,
    ("keyboard", "unigram"): 0.5,
    ("keyboard", "unigram alone"): 0.5,
    ("keyboard", "trigram"): 0.9,
    ("keyboard", "trigram alone"): 0.9,
    ("ward", "centralised"): 0.02,
    ("ward", "alone"): 0.02,
    ("ward", "federated"): 0.02,
    ("ward", "fine-tuned"): 0.02,
    ("ward", "linear"): 100,
    ("ward", "linear alone"): 100,
    ("ward", "trees"): 0.02,
    ("ward", "trees alone"): 0.02,
    ("credit", "centralised"): 0.005,
    ("credit", "alone"): 0.02,
    ("credit", "federated"): 0.04,
    ("credit", "fine-tuned"): 0.02,
    ("credit", "linear"): 1000,
    ("credit", "linear alone"): 100,
    ("credit", "trees"): 0.06,
    ("credit", "trees alone"): 0.01,
}


def best_numbers(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return for each task and way the number that did best in the table of `sequences_rates`."""
    won = study.best(table, ["task", "way"], ["number"])
    return {of: number for of, (number,) in won.items()}


def tries(name: str) -> dict[str, tuple[float, ...]]:
    """Return for each way of a task that has a number to choose the values that are tried."""
    case, alone = CASES[name], {}
    ways = dict.fromkeys(WAYS, case.rates) | dict.fromkeys(case.variants, case.rates[1:4])
    ways["fine-tuned"] = case.tuning_rates
    for kind, (_, numbers) in case.plain.items():
        alone |= {kind: numbers, f"{kind} alone": numbers}
    return ways | alone


@cache
def owners_of(name: str, seed: int) -> tuple[Owner, ...]:
    """Return the owners of a task, dealt by this seed."""
    return tuple(CASES[name].owners(seed))


def federate(case: Case, owners: Sequence[Owner], lr: float, seed: int) -> State:
    """Return the global weights of the round with the least loss on all validation together."""
    model, best, kept = case.new_model(seed), float("inf"), None
    validation = together([owner.validation for owner in owners])
    local = LocalConfig(case.local_epochs, case.batch // 2, lr)
    plan = Plan(case.rounds, min(case.cohort, len(owners)), local, seed, workers=1)
    for _ in rounds(model, [owner.train for owner in owners], case.strategy, plan):
        if (loss := evaluate(model, validation).loss) < best:
            best, kept = loss, of_model(model)
    return kept


@cache
def federated(name: str, lr: float, seed: int, without: tuple[str, ...] = ()) -> State:
    """Return the global weights of a task's owners but these; made once."""
    owners = [own for own in owners_of(name, seed) if own.name not in without]
    return federate(CASES[name], owners, lr, seed)


def fit(
    case: Case,
    owner: Owner,
    lr: float,
    seed: int,
    start: State | None = None,
    batch: int = 0,
    times: int = 1,
) -> State:
    """Return the weights of an owner's best epoch on its own validation: of its own from the
    beginning, or of fine-tuning from where it is to `start`; of so many times the usual epochs."""
    model, epochs = case.new_model(seed), times * (case.tuning if start else case.epochs)
    local = LocalConfig(lr=lr, batch_size=batch or case.batch // 2)
    options = {"validation": owner.validation, "seed": child_seed(seed, owner.name)}
    begun = start or of_model(model)
    return fine_tune(model, begun, owner.train, local, epochs, **options).weights


def pooled(owners: Sequence[Owner]) -> Owner:
    """Return all owners as one, as nobody in a federation could."""
    names = ("train", "validation", "test")
    return Owner("all", *(together([getattr(own, part) for own in owners]) for part in names))


def trained(name: str, way: str, lr: float, seed: int) -> dict[str, State]:
    """Return the weights with which each owner answers, by its name."""
    case, owners = CASES[name], owners_of(name, seed)
    one = None
    if way == "federated":
        one = federated(name, lr, seed)
    elif way == "centralised":
        one = fit(case, pooled(owners), lr, seed, batch=case.batch)
    elif way in case.variants:
        one = federate(replace(case, **case.variants[way]), owners, lr, seed)
    if one:
        return dict.fromkeys((own.name for own in owners), one)
    start = federated(name, CHOSEN[name, "federated"], seed) if way == "fine-tuned" else None
    return {own.name: fit(case, own, lr, seed, start) for own in owners}


def judge_of(case: Case, state: State) -> plain.Judge:
    """Return what judges the answers of a model with these weights."""
    model = case.new_model(0)
    model.load_state_dict(state)
    return partial(judged, model)


def naive(case: Case) -> plain.Judge:
    """Return what judges the answers that need no learning."""
    return lambda data: plain.judge(data, case.naive(data))


def judges(name: str, way: str, number: float, seed: int) -> dict[str, plain.Judge]:
    """Return what judges the answers to any examples, by the owner whose model answers."""
    case, owners = CASES[name], owners_of(name, seed)
    if way == "naive":
        return dict.fromkeys((own.name for own in owners), naive(case))
    if way in (*WAYS, *case.variants):
        made = trained(name, way, number, seed)
        known = {id(state): judge_of(case, state) for state in made.values()}
        return {who: known[id(state)] for who, state in made.items()}
    fit = case.plain[way.removesuffix(" alone")][0]
    if way.endswith(" alone"):
        return {own.name: fit(own.train, number) for own in owners}
    return dict.fromkeys((own.name for own in owners), fit(pooled(owners).train, number))


def judgements(name: str, way: str, number: float, seed: int, part: str) -> list[Tensor]:
    """Return how good each owner's model is on a part of the owner's data, (n, k) each."""
    made, known, rows = judges(name, way, number, seed), {}, []
    for own in owners_of(name, seed):
        key = (id(made[own.name]), id(getattr(own, part)))  # clients of a domain share a test
        if key not in known:
            known[key] = made[own.name](getattr(own, part))
        rows.append(known[key])
    return rows


def measure_try(settings: Settings) -> list[Row]:
    """Return the merit of one number on validation, larger is better; no test is looked at."""
    name, way, number, seed = (settings[key] for key in ("task", "way", "number", "seed"))
    objective = owners_of(name, seed)[0].test.objective
    figures = score(objective, judgements(name, way, number, seed, "validation"))
    merit = figures[CASES[name].by][objective.measure]
    return [study.rounded(merit=merit if objective.higher_is_better else -merit)]


def measure_sequences(settings: Settings) -> list[Row]:
    """Return the score of one way on the test of each owner, and of all."""
    name, way, seed = (settings[key] for key in ("task", "way", "seed"))
    number = 0.0 if way == "naive" else CHOSEN[name, way]
    objective = owners_of(name, seed)[0].test.objective
    rows = judgements(name, way, number, seed, "test")
    figures, single = score(objective, rows), [objective.metrics(own) for own in rows]
    first, second = [measure for measure in single[0] if measure != "loss"]
    by = figures[CASES[name].by]
    told = study.rounded(
        score=by[first], second=by[second], own=figures["own"][first], worst=figures["worst"][first]
    )
    each = {
        column: " ".join(f"{own[measure]:.4f}" for own in single)
        for column, measure in (("each", first), ("each_second", second))
    }
    return [{"number": number, "measure": first, "second_measure": second, **told, **each}]


SEQUENCES_RATES = Study(
    "sequences_rates",
    tuple(
        {"task": name, "way": way, "number": number, "seed": TUNING_SEED}
        for name in CASES
        for way, numbers in tries(name).items()
        for number in numbers
    ),
    measure_try,
)
SEQUENCES = Study(
    "sequences",
    tuple(
        {"task": name, "way": way, "seed": seed}
        for name in CASES
        for way in (*(["naive"] if CASES[name].naive else []), *tries(name))
        for seed in range(3)
    ),
    measure_sequences,
)
