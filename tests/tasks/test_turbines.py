"""Turbines: times in UTC, broken sensors read nothing, and a machine that stands is not asked."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from owner_toys import turbine_columns

from fedlab_helpers import evaluate
from fedlab_helpers.tasks import turbines
from fedlab_helpers.tasks.turbines import POWER, UNIT, read_turbines, steps, turbine_owner

PARTS = ("train", "validation", "test")
DAY = 144  # steps


def made(begin="2014-12-25", days=14, seed=0):
    """Return readings that are all different, as `read_turbines` returns them."""
    return turbine_columns(pd.date_range(begin, periods=days * DAY, freq="10min"), seed)


def whole():
    """Return readings of some days around both borders."""
    return pd.concat([made("2014-12-25"), made("2015-03-25", seed=1)]).asfreq("10min")


def write(path, lines):
    """Write lines as the park's table has them, with two columns that are not read."""
    header = "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg\n"
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return path


def line(name, time, power=100.0, wind=6.0, vane=1.0, outside=5.0, direction=90.0):
    return f"{name},{time},-1.0,{power},{wind},{vane},{outside},181.34,{direction}"


def test_readings_are_put_on_a_grid_of_their_own_turbine(tmp_path):
    lines = [
        line("R2", "2014-01-01T01:20:00+01:00", 300),
        line("R1", "2014-01-01T01:00:00+01:00", 50),
        line("R2", "2014-01-01T01:00:00+01:00", 200),
        line("R2", "2014-01-01T01:20:00+01:00", 999),  # a second one of the same time
    ]
    parks = read_turbines(write(tmp_path / "park.csv", lines))
    assert [*parks] == ["R1", "R2"]
    assert [*parks["R1"].columns] == ["power", "wind", "vane", "outside", "direction"]
    assert parks["R2"].index.strftime("%H:%M").tolist() == ["00:00", "00:10", "00:20"]
    assert parks["R2"]["power"].fillna(-1).tolist() == [200, -1, 300]


def test_the_hour_that_is_there_twice_is_two_hours(tmp_path):
    """In the night of 26 October 2014 clocks went back from 03:00 +02:00 to 02:00 +01:00; in that
    of 30 March they went on from 02:00 +01:00 to 03:00 +02:00."""
    back = [line("R", f"2014-10-26T02:{m}0:00+02:00", m) for m in range(6)]
    back += [line("R", f"2014-10-26T02:{m}0:00+01:00", 10 + m) for m in range(6)]
    on = [line("R", f"2014-03-30T01:{m}0:00+01:00", m) for m in range(6)]
    on += [line("R", f"2014-03-30T03:{m}0:00+02:00", 10 + m) for m in range(6)]
    for lines in (back, on):
        own = read_turbines(write(tmp_path / "park.csv", lines))["R"]
        assert own["power"].tolist() == [*range(6), *range(10, 16)]
        assert str(own.index[0])[11:16] == "00:00"


def test_times_beside_the_grid_are_those_of_the_nearest(tmp_path):
    lines = [line("R", f"2014-01-01T01:{m}3:10+01:00", m) for m in range(3)]
    own = read_turbines(write(tmp_path / "park.csv", lines))["R"]
    assert own["power"].tolist() == [0, 1, 2]
    assert own.index[0] == pd.Timestamp("2014-01-01")


def test_a_broken_thermometer_reads_nothing(tmp_path):
    lines = [line("R", f"2014-01-01T0{h}:00:00+01:00", outside=o) for h, o in [(1, -273), (2, -20)]]
    own = read_turbines(write(tmp_path / "park.csv", lines))["R"]
    assert math.isnan(own["outside"].iloc[0])
    assert own["outside"].iloc[-1] == -20
    assert np.isnan(steps(own)[1][0])


@pytest.mark.parametrize(
    ("header", "values", "message"),
    [
        ("Wind_turbine_name,Date_time,P_avg", "R,2014-01-01T01:00:00+01:00,1", "also .*'Ws_avg'"),
        (
            "Wind_turbine_name,Date_time,P_avg,Ws_avg,Va_avg,Ot_avg,Wa_avg",
            'R,2014-01-01T01:00:00+01:00,1,"6,5",1,1,1',
            r"columns: got \['Ws_avg'\], expected numbers",
        ),
    ],
)
def test_another_table_is_refused_with_its_name(tmp_path, header, values, message):
    (tmp_path / "own.csv").write_text(f"{header}\n{values}\n")
    with pytest.raises(ValueError, match=f"own.csv: .*{message}"):
        read_turbines(tmp_path / "own.csv")


def test_steps_by_hand():
    readings = made(days=1)[:6].astype(np.float64)
    readings["wind"] = [6.0, 9.0, 4.0, 4.5, 8.0, 8.0]
    readings["power"] = [400.0, 800.0, 0.0, -5.0, 0.1, 400.0]
    readings["direction"] = [0.0, 90.0, 180.0, 270.0, 0.0, 0.0]
    readings["vane"] = [0.0, 10.0, -90.0, 0.0, 0.0, np.nan]
    seen, wanted = steps(readings)
    assert seen[:2, 0].tolist() == [0.0, 1.0]
    assert seen[4, 1] == 0.5
    assert seen[:3, 2].tolist() == [0.0, 1.0, -3.0]
    np.testing.assert_allclose(seen[:4, 4:], [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-7)
    assert wanted[:3].tolist() == [1.0, 2.0, 0.0]  # no power is right in a light wind
    assert np.isnan(wanted[3])  # it stands still, whatever the reason
    assert wanted[4] == 0.1 / UNIT
    assert np.isnan(wanted[5])  # something is missing
    assert np.isfinite(seen).all()


def rows_of(data):
    """Return each example's inputs and targets as bytes."""
    pairs = zip(data.inputs[0], data.targets, strict=True)
    return [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in pairs]


@settings(max_examples=20)
@given(place=st.integers(0, 14 * DAY - 1), late=st.booleans(), days=st.sampled_from([None, 5]))
def test_a_later_reading_changes_no_earlier_example(place, late, days):
    readings, other = whole(), whole()
    time = readings.index[place] + pd.Timedelta(days=90 if late else 0)
    other.loc[time, "power"] += 77
    other.loc[time, "wind"] += 1
    first, second = (turbine_owner("R", own, days) for own in (readings, other))
    changed = [n for n in PARTS if rows_of(getattr(first, n)) != rows_of(getattr(second, n))]
    hour = pd.Timedelta(hours=1)  # that is seen before something is asked
    if time >= pd.Timestamp("2015-04-01"):
        assert set(changed) <= {"test"}
    elif time >= pd.Timestamp("2015-01-01"):
        test = time >= pd.Timestamp("2015-04-01") - hour
        assert set(changed) <= ({"validation", "test"} if test else {"validation"})
        assert not (days and "validation" in changed)
    elif days is None:
        validation = time >= pd.Timestamp("2015-01-01") - hour
        assert set(changed) <= ({"train", "validation"} if validation else {"train"})


@pytest.mark.parametrize("days", [None, 5])
def test_no_power_is_asked_for_in_two_parts(days):
    owner = turbine_owner("R", whole(), days)
    asked = [t for n in PARTS for t in getattr(owner, n).targets.flatten().tolist() if t == t]
    assert len({*asked}) == len(asked) > 200


def test_few_days_are_the_last_of_the_year():
    readings = whole()
    owner = turbine_owner("R", readings, 5)
    assert (len(owner.train), len(owner.validation)) == (8, 2)  # 720 steps in windows of 66
    asked = torch.cat([owner.train.targets, owner.validation.targets]) * UNIT
    own = readings["power"][: pd.Timestamp("2014-12-31 23:50")][-5 * DAY :].to_numpy()
    first = asked[0][~asked[0].isnan()][0].item()
    assert np.abs(own[:10] - first).min() < 1e-3
    whole_year, few = (turbine_owner("R", whole(), days).test for days in (None, 5))
    assert rows_of(few) == rows_of(whole_year)


@pytest.mark.parametrize(
    ("readings", "days", "message"),
    [
        (made("2014-12-25", 5), None, "R: validation: got '0 examples"),
        (made("2015-01-05", 100), None, "R: train: got '0 examples"),
        (made("2015-01-05", 100), 3, "R: train: got '0 examples"),
        (whole(), 0, "days: got 0, expected an integer of at least 1"),
    ],
)
def test_parts_without_readings_are_refused_by_name(readings, days, message):
    with pytest.raises(ValueError, match=message):
        turbine_owner("R", readings, days)


def test_a_table_becomes_owners_that_a_model_answers(tmp_path):
    own = whole().dropna()
    times = own.index.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    lines = [line("R1", t, *row) for t, row in zip(times, own.to_numpy().tolist(), strict=True)]
    path = write(tmp_path / "park.csv", lines)
    (owner,) = turbines.turbines(path)
    assert owner.name == "R1"
    assert owner.train.objective is POWER
    assert rows_of(owner.test) == rows_of(turbine_owner("R1", whole()).test)
    (again,) = turbines.turbines(read_turbines(path), days=5)
    assert rows_of(again.test) == rows_of(owner.test)
    assert evaluate(turbines.new_model(), owner.test)["examples"] == owner.test.asked
