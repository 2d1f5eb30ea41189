"""Somebody new: a person or a turbine with little data of their own, or none.

Of the 19 people a seed draws six who were no part of the federation; of the four turbines each is
the newcomer in turn. All are asked the same as in the study "sequences", with the numbers chosen
there. What a newcomer's own few days can teach is chosen on the last of these days.
"""

from collections.abc import Sequence
from dataclasses import replace

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.studies import plain_models as plain
from fedlab_helpers.studies import study
from fedlab_helpers.studies.sequences import (
    CASES,
    CHOSEN,
    Case,
    federated,
    fit,
    judge_of,
    naive,
    owners_of,
    pooled,
)  # fmt: skip
from fedlab_helpers.studies.study import Row, Settings, Study
from fedlab_helpers.tasks import glucose, turbines
from fedlab_helpers.tasks.owners import Owner

OUT = 6  # people who come later
LEAKY = "alone, chosen by later days"  # which somebody with one day has not got
TIMES = 3  # as many epochs as with all data: a day has few steps
DAYS = {"glucose": (1, 2), "turbines": (14, 56, 365)}
YEAR = 365  # as the other days are taken: all windows, the last quarter to choose by
WITHOUT = {  # ways that need nothing of the newcomer
    "glucose": ("naive", "linear of others", "others' model"),
    "turbines": ("power curve of others", "trees of others", "others' model"),
}
WITH = {
    "glucose": ("linear alone", "alone", LEAKY, "fine-tuned"),
    "turbines": ("power curve alone", "trees alone", "alone", "fine-tuned"),
}


def groups(name: str, seed: int) -> list[tuple[list[str], list[Owner]]]:
    """Return who is new, by name, and the owners that federate without them."""
    owners = owners_of(name, seed)
    if name == "turbines":
        new = [[owner.name] for owner in owners]
    else:
        drawn = numpy_rng(seed, "newcomers").permutation(len(owners))[:OUT]
        new = [[owners[place].name for place in sorted(drawn)]]
    return [(names, [own for own in owners if own.name not in names]) for names in new]


def with_days(name: str, days: int, seed: int) -> dict[str, Owner]:
    """Return each owner as it is with so many days of its own; 0: with all."""
    if not days:
        return {own.name: own for own in owners_of(name, seed)}
    few = glucose.glucose(days=days) if name == "glucose" else turbines.turbines(days=days)
    return {own.name: own for own in few}


def judges(
    name: str, way: str, seed: int, new: Sequence[Owner], others: Sequence[Owner]
) -> list[plain.Judge]:
    """Return what judges the answers to each newcomer's questions."""
    case, kind = CASES[name], way.removesuffix(" alone").removesuffix(" of others")
    if way == "naive":
        return [naive(case)] * len(new)
    if way.endswith(" of others"):
        return [case.plain[kind][0](pooled(others).train, CHOSEN[name, kind])] * len(new)
    if kind in case.plain:
        return [best_plain(case, kind, own) for own in new]
    if way == LEAKY:
        later = {own.name: own.validation for own in owners_of(name, seed)}
        new = [replace(own, validation=later[own.name]) for own in new]
    if way in ("alone", LEAKY):
        rate = CHOSEN[name, "alone"]
        return [judge_of(case, fit(case, own, rate, seed, times=TIMES)) for own in new]
    start = federated(name, CHOSEN[name, "federated"], seed, tuple(own.name for own in new))
    if way == "others' model":
        return [judge_of(case, start)] * len(new)
    rate = CHOSEN[name, "fine-tuned"]
    return [judge_of(case, fit(case, own, rate, seed, start, times=TIMES)) for own in new]


def best_plain(case: Case, kind: str, own: Owner) -> plain.Judge:
    """Return what judges the plain model whose number is best on the owner's own validation."""
    fitted, numbers = case.plain[kind]
    models = [fitted(own.train, number) for number in numbers]
    objective = own.validation.objective
    return min(models, key=lambda judge: objective.metrics(judge(own.validation))["rmse"])


def measure_newcomers(settings: Settings) -> list[Row]:
    """Return each newcomer's error on its test, a row each."""
    name, way, days, seed = (settings[key] for key in ("task", "way", "days", "seed"))
    rows, known = [], with_days(name, days, seed)
    for names, others in groups(name, seed):
        new = [known[who] for who in names]
        for own, judge in zip(new, judges(name, way, seed, new, others), strict=True):
            figures = own.test.objective.metrics(judge(own.test))
            asked = own.train.asked if days else 0
            told = study.rounded(rmse=figures["rmse"], mae=figures["mae"])
            rows.append({"owner": own.name, "trained_on": asked, **told})
    return rows


NEWCOMERS = Study(
    "newcomers",
    tuple(
        {"task": name, "way": way, "days": days, "seed": seed}
        for name in DAYS
        for days in (0, *DAYS[name])
        for way in (WITH if days else WITHOUT)[name]
        if (days, way) != (YEAR, "alone")  # "sequences" has it
        for seed in range(3)
    ),
    measure_newcomers,
)
