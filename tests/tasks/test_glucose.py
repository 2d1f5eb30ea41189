"""Glucose: gaps are filled from before only, and nothing of a later part is in an earlier one."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers import evaluate
from fedlab_helpers.tasks import glucose
from fedlab_helpers.tasks.glucose import AHEAD, CHANGE, UNIT, glucose_owner, read_glucose, steps

PARTS = ("train", "validation", "test")
COUNT = 800  # so that windows end where a part does


def made(count=COUNT, seed=0):
    """Return readings that are all different, on a grid of five minutes."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2014-02-03", periods=count, freq="5min")
    return pd.Series(120 + 30 * np.sin(np.arange(count) / 40) + rng.normal(0, 3, count), times)


def write(path, readings, name="1636-69-001", **more):
    """Write the readings of one person as the published table has them."""
    table = pd.DataFrame({"id": name, "time": readings.index, "gl": readings.to_numpy()})
    table.assign(**more).to_csv(path)
    return path


def parts_of(owner):
    return {name: getattr(owner, name) for name in PARTS}


def test_readings_are_put_on_a_grid(tmp_path):
    path = tmp_path / "glucose.csv"
    path.write_text(
        '"","id","time","gl","diagnosis"\n'
        '"1","b",2014-02-03 00:02:12,93,"x"\n'  # of 00:00
        '"2","a",2014-02-03 09:00:00,100,"x"\n'
        '"3","b",2014-02-03 00:12:40,95,"x"\n'  # of 00:15, and the next one, too
        '"4","b",2014-02-03 00:16:00,97,"x"\n'
        '"5","b",2014-02-03 00:05:00,,"x"\n'
    )
    people = read_glucose(path)
    assert [*people] == ["a", "b"]
    assert people["a"].tolist() == [100.0]
    assert people["b"].index.strftime("%H:%M").tolist() == ["00:00", "00:05", "00:10", "00:15"]
    assert people["b"].fillna(-1).tolist() == [93, -1, -1, 96]


def test_a_table_in_any_order_is_the_same(tmp_path):
    path = write(tmp_path / "a.csv", made(50))
    pd.read_csv(path).sample(frac=1, random_state=1).to_csv(tmp_path / "b.csv")
    first, second = (read_glucose(tmp_path / name) for name in ("a.csv", "b.csv"))
    pd.testing.assert_series_equal(*(people["1636-69-001"] for people in (first, second)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,time,value\na,2014-02-03 00:00,90\n", r"columns: got \['id', 'time', 'value'\]"),
        ("id,time,gl\na,2014-02-03 00:00,Low\nb,2014-02-03 00:00,90\n", r"gl: got \['Low'\]"),
    ],
)
def test_another_table_is_refused_with_its_name(tmp_path, text, message):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(ValueError, match=f"own.csv: {message}"):
        read_glucose(tmp_path / "own.csv")


def test_steps_by_hand():
    readings = made(10)
    readings[:] = [100.0, 110, np.nan, np.nan, np.nan, 140, 150, 160, np.nan, 170]
    seen, wanted = steps(readings)
    level = seen[:, 0] * UNIT + 120
    assert level[[0, 1, 2, 3, 5]].tolist() == [100, 110, 110, 110, 140]  # filled from before
    assert np.isnan(level[4])  # the third in a row is not
    assert seen[1:4, 1].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(seen[[0, 4, 5], 1]).all()  # no change is known there
    assert seen[0, 2:].tolist() == [0.0, 1.0]  # midnight
    assert wanted[:2].tolist() == [(150 - 100) / UNIT, (160 - 110) / UNIT]
    assert np.isnan(wanted[2])  # leads to what was not taken
    assert wanted[3] == (170 - 110) / UNIT
    assert np.isnan(wanted[4:]).all()


@given(
    place=st.integers(0, 49), value=st.sampled_from([40.0, 300.0, np.nan]), seed=st.integers(0, 9)
)
def test_what_is_seen_does_not_depend_on_later_readings(place, value, seed):
    readings = made(50, seed)
    other = readings.copy()
    other.iloc[place] = value
    before, after = steps(readings), steps(other)
    np.testing.assert_array_equal(before[0][:place], after[0][:place])
    early = max(0, place - AHEAD)
    np.testing.assert_array_equal(before[1][:early], after[1][:early])


def rows_of(data):
    """Return each example's inputs and targets as bytes."""
    pairs = zip(data.inputs[0], data.targets, strict=True)
    return [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in pairs]


@settings(max_examples=25)
@given(place=st.integers(0, COUNT - 1), days=st.sampled_from([None, 1, 2]))
def test_a_later_reading_changes_no_earlier_example(place, days):
    """Of each part, whatever is seen or asked lies before all that the next part asks."""
    readings = made()
    other = readings.copy()
    other.iloc[place] += 50
    first, second = (parts_of(glucose_owner("a", own, days)) for own in (readings, other))
    changed = [name for name in PARTS if rows_of(first[name]) != rows_of(second[name])]
    if place >= 0.75 * len(readings):
        assert set(changed) <= {"test"}
    elif place >= 0.6 * len(readings):
        assert set(changed) <= {"validation", "test"}
    if "test" in changed and changed != ["test"]:
        border = 0.75 * len(readings)
        assert border - 24 - 1 <= place < border  # seen before the test, never asked there


@pytest.mark.parametrize("days", [None, 1, 2])
def test_no_reading_is_asked_for_in_two_parts(days):
    """A target is found again by its value: changes of made readings are all different."""
    asked = [
        part.targets[~part.targets.isnan()].tolist()
        for part in parts_of(glucose_owner("a", made(), days)).values()
    ]
    every = [value for part in asked for value in part]
    assert len({*every}) == len(every)


@pytest.mark.parametrize("days", [None, 1, 2])
def test_targets_lead_to_readings_of_their_own_part(days):
    """Level and change give the reading that a target leads to; each is before the next part's."""
    owner, readings = glucose_owner("a", made(), days), made().to_numpy()
    reached = []
    for part in parts_of(owner).values():
        level = part.inputs[0][..., 0] * UNIT + 120
        there = ~part.targets.isnan()
        values = (level + part.targets * UNIT)[there].numpy()
        now = level[there].numpy()
        at = [int(np.abs(readings - value).argmin()) for value in (*values, *now)]
        reached.append((min(at[len(values) :]), max(at)))
    assert reached[0][1] < reached[1][0]
    assert reached[1][1] < reached[2][0]


def test_the_test_is_the_same_however_few_days_there_are():
    tests = [glucose_owner("a", made(), days).test for days in (None, 1, 2)]
    assert rows_of(tests[0]) == rows_of(tests[1]) == rows_of(tests[2])


def test_more_days_than_there_are_are_all():
    many, all_of_them = (glucose_owner("a", made(), days) for days in (99, 2))
    assert rows_of(many.train) == rows_of(all_of_them.train)


def test_what_is_learnt_from_is_within_the_days():
    readings = made()
    owner = glucose_owner("a", readings, 1)
    last = (owner.validation.inputs[0][-1, -1, 0] * UNIT + 120).item()
    assert np.abs(readings.to_numpy() - last).argmin() < 288


@pytest.mark.parametrize(
    ("readings", "days", "message"),
    [
        (made(0), None, "a: readings: got 0, expected at least one"),
        (made(30) * np.nan, None, "a: readings: got 0"),
        (made(1), None, "a: train: got '0 examples"),
        (made(130), None, "a: validation: got '0 examples"),
        (made(), 0, "days: got 0, expected an integer of at least 1"),
        (made(), 1.5, "days: got 1.5"),
        (made(100), 1, "a: train: got"),
    ],
)
def test_too_few_readings_are_refused_by_name(readings, days, message):
    with pytest.raises(ValueError, match=message):
        glucose_owner("a", readings, days)


def test_a_table_becomes_owners_that_a_model_answers(tmp_path):
    path = write(tmp_path / "a.csv", made(), diagnosis="diabetic", extra=1)
    (owner,) = glucose.glucose(path)
    assert owner.name == "1636-69-001"
    assert owner.train.objective is CHANGE
    assert evaluate(glucose.new_model(), owner.test)["examples"] == owner.test.asked
    assert rows_of(glucose.glucose(path, days=1)[0].test) == rows_of(owner.test)


def test_a_node_has_one_persons_readings(tmp_path):
    path = write(tmp_path / "a.csv", made())
    assert rows_of(glucose.examples(path)) == rows_of(glucose.glucose(path)[0].train)
    both = pd.concat([pd.read_csv(path), pd.read_csv(path).assign(id="b")])
    both.to_csv(tmp_path / "b.csv")
    with pytest.raises(ValueError, match=r"b.csv: id: got \['1636-69-001', 'b'\], expected one"):
        glucose.examples(tmp_path / "b.csv")


def test_the_model_is_the_same_wherever_it_is_made():
    first, second = glucose.new_model(), glucose.new_model()
    series = torch.zeros(1, 3, 4)
    assert torch.equal(first(series), second(series))
    assert first(series).shape == (1, 3)
