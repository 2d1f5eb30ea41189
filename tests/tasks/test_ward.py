"""The ward: hour by hour, nothing of what comes later, and no patient in two parts."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers import evaluate, of_model, predict
from fedlab_helpers.tasks import ward
from fedlab_helpers.tasks.ward import (
    AHEAD,
    FEATURES,
    HOURS,
    LOWERED,
    Stay,
    pieces,
    read_ward,
    steps,
)

MAP = [*ward.VITALS].index("map")
BEGIN = pd.Timestamp("2180-07-23 17:00", tz="UTC")


def stay(hours=20, seed=0, patient="p", unit="MICU"):
    """Return a stay of plausible numbers, half of them not taken."""
    rng = np.random.default_rng(seed)
    middle = np.array([mean for _, mean, _ in ward.VITALS.values()])
    vitals = middle + rng.normal(0, 1, (hours, 7))
    vitals[:, MAP] = rng.uniform(55, 90, hours)
    vitals[rng.random((hours, 7)) < 1 / 2] = np.nan
    return Stay(patient, unit, vitals.astype(np.float32))


def pressures(*values):
    """Return a stay of which the mean pressure alone was taken."""
    vitals = np.full((len(values), 7), np.nan, np.float32)
    vitals[:, MAP] = values
    return Stay("p", "MICU", vitals)


def patients(count=30):
    """Return stays of patients, each in two units."""
    stays = [stay(30, seed, f"p{seed}", ("CCU", "MICU", "SICU")[seed % 3]) for seed in range(count)]
    return stays + [stay(25, 99 + seed, f"p{seed}", "CVICU") for seed in range(count)]


# Reading

pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None,
    reason='needs pyarrow: pip install -e ".[ward]"',
)


def vital(hour, name, value, visit="v1", minute=0):
    at = BEGIN + pd.Timedelta(hours=hour, minutes=minute)
    return (visit, at, "a name", name, value)


def move(visit="v1", begin=0, end=12, unit="MICU", kind="icu", minute=0):
    first, last = (BEGIN + pd.Timedelta(hours=h, minutes=minute) for h in (begin, end))
    return ("p1", visit, first, last, unit, kind)


def write(folder, vitals, moves=None, visits=(("p1", "v1"),)):
    """Write three tables in the CLIF format, with a column that is not read in each."""
    names = {
        "vitals": ["hospitalization_id", "recorded_dttm", "vital_name", "vital_category",
                   "vital_value"],
        "adt": ["patient_id", "hospitalization_id", "in_dttm", "out_dttm", "location_name",
                "location_category"],
        "hospitalization": ["patient_id", "hospitalization_id"],
    }  # fmt: skip
    for table, rows in zip(names, (vitals, moves or [move()], visits), strict=True):
        frame = pd.DataFrame(rows, columns=names[table]).assign(more="x")
        frame.to_parquet(folder / f"clif_{table}.parquet")
    return folder


@pyarrow
def test_an_hour_is_the_median_of_what_is_plausible(tmp_path):
    vitals = [vital(hour, "heart_rate", 80 + hour) for hour in range(10)]
    vitals += [vital(1, "heart_rate", v, minute=m) for m, v in [(5, 90), (6, 95), (7, 999)]]
    vitals += [vital(2, "weight_kg", 70.0), vital(3, "map", 19.0), vital(4, "map", 20.0)]
    vitals += [vital(hour, "heart_rate", 50.0) for hour in (-1, 12)]  # elsewhere
    (own,) = read_ward(write(tmp_path, vitals))
    assert (own.patient, own.unit) == ("p1", "MICU")
    assert own.vitals.shape == (10, 7)
    assert own.vitals[:, 0].tolist() == [80, 90, *range(82, 90)]  # of 81, 90, 95
    assert np.isnan(own.vitals[3, MAP])
    assert own.vitals[4, MAP] == 20
    assert np.isnan(own.vitals[:, 1]).all()


@pyarrow
def test_a_stay_is_within_its_unit_and_hours_without_vital_signs_are_there(tmp_path):
    vitals = [vital(hour, "spo2", 90 + hour) for hour in (0, 1, 2, 9, 10, 19)]
    moves = [move(end=2, kind="ed", unit="ED"), move(begin=1, end=10, minute=30)]
    (own,) = read_ward(write(tmp_path, vitals, moves))
    assert len(own.vitals) == 10  # from the hour of 1:30 to that of 10:30
    assert own.vitals[[0, 1, 8, 9], 5].tolist() == [91, 92, 99, 100]
    assert np.isnan(own.vitals[2:8, 5]).all()


@pyarrow
def test_short_stays_and_those_without_vital_signs_are_left_out(tmp_path):
    vitals = [vital(hour, "map", 70.0) for hour in range(7)]
    moves = [move(), move("v2")]
    assert read_ward(write(tmp_path, vitals, moves, [("p1", "v1"), ("p2", "v2")])) == []


@pyarrow
def test_another_table_is_refused_with_its_name(tmp_path):
    vitals = [vital(hour, "map", 70.0) for hour in range(9)]
    folder = write(tmp_path, vitals)
    with pytest.raises(ValueError, match=r"adt: hospitalization_id: got 'v1', expected one with"):
        read_ward(write(tmp_path, vitals, visits=[("p1", "v2")]))
    path = folder / "clif_adt.parquet"
    pd.read_parquet(path).drop(columns="out_dttm").to_parquet(path)
    with pytest.raises(ValueError, match=r"clif_adt.parquet: columns: .* also \['out_dttm'\]"):
        read_ward(folder)


def test_without_pyarrow_it_is_said_what_is_needed(tmp_path, monkeypatch):
    def lost(*_, **__):
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd, "read_parquet", lost)
    with pytest.raises(ValueError, match="ward: expected pyarrow, which reads these files: pip"):
        read_ward(tmp_path)


# What is seen and asked


def test_steps_by_hand():
    own = pressures(80, 70, np.nan, 64, 66, 90, 90, np.nan, np.nan, 70, 90)
    seen, wanted = steps(own)
    assert seen.shape == (11, FEATURES)
    # Hours 0 to 6 have four behind them; 2 and 3 are not asked: not measured, and low already.
    # Of 4 to 6, low pressure comes to nobody; hour 6 has two measured hours behind it.
    assert wanted[[0, 1, 4, 5, 6]].tolist() == [1, 1, 0, 0, 0]
    assert np.isnan(wanted[[2, 3, 7, 8, 9, 10]]).all()
    assert seen[:3, MAP].tolist() == pytest.approx([0, (70 - 80) / 15, (70 - 80) / 15])
    assert seen[:4, 7 + MAP].tolist() == [0, 0, 1, 0]
    assert (seen[:, [0, 1, 2, 4, 5, 6]] == 0).all()  # never taken: the mean
    assert (seen[:, [7, 8, 9, 11, 12]] == 1).all()
    assert seen[:, 13].tolist() == pytest.approx(np.log1p(np.arange(11)) / 4)


def test_before_the_first_value_was_taken_the_mean_is_seen():
    seen, _ = steps(pressures(np.nan, 65, 65, 65, 65, 65))
    assert seen[:2, MAP].tolist() == [0, -1]
    assert seen[:2, 7 + MAP].tolist() == [1, 0]


def test_it_is_asked_where_two_of_four_hours_were_measured():
    one, two = pressures(80, 70, *[np.nan] * 3), pressures(80, 70, 70, *[np.nan] * 2)
    assert np.isnan(steps(one)[1]).all()
    assert steps(two)[1][0] == 0


def test_the_border_is_not_low():
    assert steps(pressures(65, 65, 65, 65, 65))[1][0] == 0
    assert steps(pressures(65, 65, 65, 65, 64.9))[1][0] == 1
    assert np.isnan(steps(pressures(64.9, 65, 65, 65, 65))[1][0])


@settings(max_examples=50)
@given(
    hour=st.integers(0, 8),
    sign=st.integers(0, 6),
    value=st.sampled_from([45.0, 120.0, np.nan]),
    seed=st.integers(0, 5),
)
def test_what_is_seen_does_not_depend_on_later_hours(hour, sign, value, seed):
    own, other = stay(seed=seed), stay(seed=seed)
    other.vitals[hour, sign] = value
    before, after = steps(own), steps(other)
    np.testing.assert_array_equal(before[0][:hour], after[0][:hour])
    early = max(0, hour - AHEAD)
    np.testing.assert_array_equal(before[1][:early], after[1][:early])


def test_a_long_stay_is_cut_and_a_short_one_padded():
    data = pieces([stay(HOURS + 20, 1), stay(12, 2)])
    assert data.inputs[0].shape == (3, HOURS, FEATURES)
    assert data.inputs[1].tolist() == [HOURS, 20, 12]
    assert data.padded
    assert data.objective is LOWERED
    whole = steps(stay(HOURS + 20, 1))[0].astype(np.float32)
    assert (data.inputs[0][0].numpy() == whole[:HOURS]).all()
    assert (data.inputs[0][1, :20].numpy() == whole[HOURS:]).all()
    assert (data.inputs[0][1, 20:] == 0).all()
    assert data.targets[2, 12:].isnan().all()


def test_pieces_of_nothing_and_of_stays_that_ask_nothing():
    assert len(pieces([])) == 0
    assert len(pieces([pressures(60, 60, 60, 60, 60, 60)])) == 0
    assert len(pieces([stay(10), pressures(*[60] * 9)])) == 1


def test_padding_changes_no_answer():
    model, data = ward.new_model(), pieces([stay(12, 2)])
    short = data.inputs[0][:, :12]
    torch.testing.assert_close(predict(model, data)[:, :12], model.eval()(short).detach())


# Owners


@settings(max_examples=10)
@given(seed=st.integers(0, 50))
def test_no_patient_is_in_two_parts_in_whatever_unit(seed):
    stays = patients()
    for number, own in enumerate(stays):
        own.vitals[:, 0] = 100 + number % 30 + 1  # by which a patient is known
    seen = {"train": set(), "validation": set(), "test": set()}
    for owner in ward.ward(stays, seed):
        for part, those in seen.items():
            those |= {*getattr(owner, part).inputs[0][:, 0, 0].tolist()}
    assert not seen["train"] & seen["validation"]
    assert not seen["test"] & (seen["train"] | seen["validation"])
    assert len(seen["train"]) > len(seen["test"]) > len(seen["validation"])


def test_units_are_owners_in_the_order_of_their_names():
    owners = ward.ward(patients())
    assert [owner.name for owner in owners] == ["CCU", "CVICU", "MICU", "SICU"]
    assert evaluate(ward.new_model(), owners[0].test)["examples"] == owners[0].test.asked


def test_a_unit_without_patients_in_each_part_is_left_out_and_one_unit_is_no_federation():
    few = [*patients(), stay(30, 7, "p0", "Neuro")]
    assert "Neuro" not in [owner.name for owner in ward.ward(few)]
    with pytest.raises(ValueError, match=r"stays: units with patients in each part: got 1, expect"):
        ward.ward([stay(30, n, f"p{n}", "MICU") for n in range(30)])
    with pytest.raises(ValueError, match="in each part: got 0, expected two or more"):
        ward.ward([])


@pyarrow
def test_a_folder_becomes_owners(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"v{n}" for n in range(24)]
    vitals = [vital(h, "map", rng.uniform(60, 90), name) for name in names for h in range(12)]
    moves = [move(name, unit="AB"[n % 2]) for n, name in enumerate(names)]
    folder = write(tmp_path, vitals, moves, [(f"p{name}", name) for name in names])
    owners = ward.ward(folder)
    assert [owner.name for owner in owners] == ["A", "B"]
    again = ward.ward(read_ward(folder))
    assert torch.equal(owners[1].test.inputs[0], again[1].test.inputs[0])


def test_the_model_is_the_same_wherever_it_is_made():
    first, second = (of_model(ward.new_model()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
