"""Newcomers: who comes later was no part of what the others made, and is asked the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from owner_toys import glucose_readings, turbine_readings

from fedlab_helpers.studies import newcomers, sequences
from fedlab_helpers.studies import plain_models as plain
from fedlab_helpers.studies.newcomers import DAYS, OUT, WITH, WITHOUT
from fedlab_helpers.studies.sequences import CASES, CHOSEN
from fedlab_helpers.tasks import glucose, turbines

PEOPLE, PARK = 9, 4
NUMBERS = {"trees": 0.1, "linear": 1.0, "power curve": 1.0}
FEW = {"glucose": 1, "turbines": 3}


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Nine people and four turbines with few readings; no training takes long."""
    people = {f"p{k}": glucose_readings(k) for k in range(PEOPLE)}
    park = {f"T{k}": turbine_readings(k) for k in range(PARK)}
    dealt = {
        "glucose": lambda days=None: [
            glucose.glucose_owner(who, own, days) for who, own in people.items()
        ],
        "turbines": lambda days=None: [
            turbines.turbine_owner(who, own, days) for who, own in park.items()
        ],
    }
    for name, module in (("glucose", glucose), ("turbines", turbines)):
        monkeypatch.setattr(module, name, dealt[name])
        monkeypatch.setitem(CASES, name, replace(CASES[name], rounds=2, epochs=1, tuning=1))
        for way in sequences.tries(name):
            number = NUMBERS.get(way.removesuffix(" alone"), 0.02)
            monkeypatch.setitem(CHOSEN, (name, way), number)
    forget()
    yield dealt
    forget()


def forget():
    sequences.owners_of.cache_clear()
    sequences.federated.cache_clear()


@pytest.mark.parametrize("seed", range(3))
def test_six_people_are_new_and_the_others_are_all_the_rest(seed):
    ((names, others),) = newcomers.groups("glucose", seed)
    everybody = [own.name for own in sequences.owners_of("glucose", seed)]
    assert len(set(names)) == OUT
    assert sorted([*names, *(own.name for own in others)]) == sorted(everybody)
    assert names == [name for name in everybody if name in names]


def test_other_seeds_draw_others_and_each_turbine_is_new_once():
    drawn = {tuple(newcomers.groups("glucose", seed)[0][0]) for seed in range(3)}
    assert len(drawn) == 3
    groups = newcomers.groups("turbines", 0)
    assert [names for names, _ in groups] == [["T0"], ["T1"], ["T2"], ["T3"]]
    assert all(
        len(others) == PARK - 1 and names[0] not in {own.name for own in others}
        for names, others in groups
    )


@pytest.mark.parametrize("name", DAYS)
def test_the_test_is_the_same_with_few_days_as_with_all(name):
    whole, few = (newcomers.with_days(name, days, 0) for days in (0, FEW[name]))
    assert [*whole] == [*few]
    for who, own in whole.items():
        assert torch.equal(own.test.inputs[0], few[who].test.inputs[0])
        assert torch.equal(own.test.targets.nan_to_num(9), few[who].test.targets.nan_to_num(9))


class Spy:
    """Writes down the data that anything is made of."""

    def __init__(self, act, place):
        self.act, self.place, self.seen = act, place, []

    def __call__(self, *arguments, **options):
        self.seen.append(arguments[self.place])
        return self.act(*arguments, **options)


def test_the_others_model_is_made_of_the_others_alone(monkeypatch):
    federate = Spy(sequences.federate, 1)
    monkeypatch.setattr(sequences, "federate", federate)
    settings = {"task": "glucose", "way": "others' model", "days": 0, "seed": 1}
    rows = newcomers.measure_newcomers(settings)
    ((new, _),) = newcomers.groups("glucose", 1)
    assert [row["owner"] for row in rows] == new
    (others,) = federate.seen
    assert not {own.name for own in others} & {*new}
    assert len(others) == PEOPLE - OUT
    newcomers.measure_newcomers({**settings, "way": "fine-tuned", "days": 1})
    assert len(federate.seen) == 1  # the same model


@pytest.mark.parametrize("way", WITHOUT["glucose"])
def test_what_needs_nothing_of_newcomers_is_the_same_whatever_they_wear(way, monkeypatch, made):
    """Other readings of theirs, before the test: their errors stay as they were."""
    settings = {"task": "glucose", "way": way, "days": 0, "seed": 0}
    ((new, _),) = newcomers.groups("glucose", 0)
    before = newcomers.measure_newcomers(settings)

    def other():
        return [
            replace(own, train=foreign, validation=foreign) if own.name in new else own
            for own in made["glucose"]()
        ]

    foreign = glucose.glucose_owner("x", glucose_readings(77)).train
    monkeypatch.setattr(glucose, "glucose", other)
    forget()
    assert newcomers.measure_newcomers(settings) == before


def test_each_newcomer_is_new_to_the_turbines_that_answer(monkeypatch):
    federate = Spy(sequences.federate, 1)
    monkeypatch.setattr(sequences, "federate", federate)
    settings = {"task": "turbines", "way": "others' model", "days": 0, "seed": 0}
    newcomers.measure_newcomers(settings)
    newcomers.measure_newcomers({**settings, "way": "fine-tuned", "days": 3})
    told = [[own.name for own in others] for others in federate.seen]
    assert told == [[f"T{k}" for k in range(PARK) if k != new] for new in range(PARK)]


@pytest.mark.parametrize("way", ["linear alone", "alone", "fine-tuned"])
def test_what_a_newcomer_learns_from_is_its_own_few_days(way, monkeypatch):
    rows = newcomers.measure_newcomers({"task": "glucose", "way": way, "days": 1, "seed": 0})
    few = newcomers.with_days("glucose", 1, 0)
    assert [row["trained_on"] for row in rows] == [few[row["owner"]].train.asked for row in rows]
    assert all(0 < row["trained_on"] < 288 for row in rows)  # readings of a day
    assert all(np.isfinite(row["rmse"]) and row["rmse"] >= row["mae"] for row in rows)


def test_what_is_fitted_to_few_days_is_given_no_more(monkeypatch):
    case, seen = CASES["glucose"], []
    fit, numbers = case.plain["linear"]

    def listening(data, number):
        seen.append(data.asked)
        return fit(data, number)

    heard = replace(case, plain={**case.plain, "linear": (listening, numbers)})
    monkeypatch.setitem(CASES, "glucose", heard)
    rows = newcomers.measure_newcomers(
        {"task": "glucose", "way": "linear alone", "days": 1, "seed": 0}
    )
    assert seen == [row["trained_on"] for row in rows for _ in numbers]
    newcomers.measure_newcomers(
        {"task": "glucose", "way": "linear of others", "days": 0, "seed": 0}
    )
    ((_, others),) = newcomers.groups("glucose", 0)
    assert seen[OUT * len(numbers) :] == [sum(own.train.asked for own in others)]


def test_a_plain_model_has_the_number_that_its_owners_validation_likes_best():
    case, own = CASES["glucose"], newcomers.with_days("glucose", 1, 0)["p0"]
    judge = newcomers.best_plain(case, "linear", own)
    objective = own.test.objective

    def error(judged):
        return objective.metrics(judged(own.validation))["rmse"]

    fit, numbers = case.plain["linear"]
    errors = [error(fit(own.train, number)) for number in numbers]
    assert error(judge) == min(errors) < max(errors)


def test_what_is_chosen_by_later_days_is_trained_on_the_same_day(monkeypatch):
    seen = []

    def listening(case, own, *others, **options):
        seen.append((own.name, own.train.asked, own.validation.asked))
        return fit(case, own, *others, **options)

    fit = newcomers.fit
    monkeypatch.setattr(newcomers, "fit", listening)
    for way in ("alone", newcomers.LEAKY):
        newcomers.measure_newcomers({"task": "glucose", "way": way, "days": 1, "seed": 0})
    honest, leaky = seen[:OUT], seen[OUT:]
    assert [asked for _, asked, _ in honest] == [asked for _, asked, _ in leaky]
    whole = {own.name: own.validation.asked for own in sequences.owners_of("glucose", 0)}
    ((names, _),) = newcomers.groups("glucose", 0)
    assert [later for *_, later in leaky] == [whole[name] for name in names]
    assert [later for *_, later in honest] != [later for *_, later in leaky]


@pytest.mark.parametrize("way", ["alone", "fine-tuned"])
def test_few_days_are_gone_through_three_times_as_often(way, monkeypatch):
    tuned = Spy(sequences.fine_tune, 4)
    monkeypatch.setattr(sequences, "fine_tune", tuned)
    newcomers.measure_newcomers({"task": "glucose", "way": way, "days": 1, "seed": 0})
    case = CASES["glucose"]
    assert tuned.seen == [3 * (case.epochs if way == "alone" else case.tuning)] * OUT


def test_without_own_data_nothing_was_trained_on_and_as_now_is_persistence():
    rows = newcomers.measure_newcomers({"task": "glucose", "way": "naive", "days": 0, "seed": 0})
    ((new, _),) = newcomers.groups("glucose", 0)
    owners = {own.name: own for own in sequences.owners_of("glucose", 0)}
    for row, who in zip(rows, new, strict=True):
        change = 40 * owners[who].test.targets
        change = change[~change.isnan()].double()
        assert (row["owner"], row["trained_on"]) == (who, 0)
        assert row["rmse"] == pytest.approx(float(change.square().mean().sqrt()), abs=1e-3)
        assert row["mae"] == pytest.approx(float(change.abs().mean()), abs=1e-3)


@pytest.mark.parametrize("way", [*WITHOUT["turbines"], *WITH["turbines"]])
def test_every_way_of_the_turbines_gives_a_row_for_each(way):
    days = 0 if way in WITHOUT["turbines"] else 3
    rows = newcomers.measure_newcomers({"task": "turbines", "way": way, "days": days, "seed": 0})
    assert [row["owner"] for row in rows] == ["T0", "T1", "T2", "T3"]
    assert all((row["trained_on"] > 0) == bool(days) for row in rows)
    assert len({row["rmse"] for row in rows}) == PARK


def test_a_power_curve_of_others_is_that_of_all_their_readings():
    ((_, others), *_) = newcomers.groups("turbines", 0)
    own = sequences.owners_of("turbines", 0)[0]
    (judge,) = newcomers.judges("turbines", "power curve of others", 0, [own], others)
    table = plain.table_of(sequences.pooled(others).train, plain.turbine_features)
    answer = plain.power_curve(table, 1.0, False)
    asked = plain.judge(own.test, answer(plain.turbine_features(own.test)))
    assert torch.equal(judge(own.test), asked)


def test_the_runs_ask_for_days_where_own_data_is_learnt_from():
    for run in newcomers.NEWCOMERS.runs:
        ways = WITH if run["days"] else WITHOUT
        assert run["way"] in ways[run["task"]]
        assert run["days"] in (0, *DAYS[run["task"]])
