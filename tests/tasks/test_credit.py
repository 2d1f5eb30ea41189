"""Credit: six months of each customer, and banks by the limits they give."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers import evaluate
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.tasks import credit
from fedlab_helpers.tasks.credit import DEFAULT, FEATURES, MONTHS, banks, customers, read_credit

DELAYS = ["PAY_0", *(f"PAY_{month}" for month in range(2, 7))]


def made(count, seed=0):
    """Return a table as the published one is, with columns that are not read among them."""
    rng = np.random.default_rng(seed)
    whole = {"LIMIT_BAL": rng.integers(1, 50, count) * 10_000.0, "AGE": rng.integers(21, 70, count)}
    whole |= {"SEX": rng.integers(0, 2, count), DEFAULT: np.arange(count) % 3 % 2}
    whole |= {name: rng.integers(-2, 9, count) for name in DELAYS}
    for kind in ("BILL", "PAY"):
        whole |= {f"{kind}_AMT{m}": rng.integers(-500, 90_000, count) * 1.0 for m in MONTHS}
    for kind, most in (("EDUCATION", 7), ("MARRIAGE", 4)):
        which = rng.integers(0, most, count)
        whole |= {f"{kind}_{i}": (which == i).astype(int) for i in range(most)}
    return pd.DataFrame(whole).rename_axis("ID")


def write(path, table):
    table.to_csv(path)
    return path


def one(**values):
    """Return one customer's months, of a table of zeros with these values."""
    table = made(1) * 0
    table["LIMIT_BAL"], table["AGE"] = 140_000.0, 35
    data = customers(table.assign(**values))
    return data.inputs[0][0], data.targets.item()


def test_a_customer_by_hand():
    seen, missed = one(
        PAY_6=-2, PAY_5=-1, PAY_4=0, PAY_3=2, PAY_2=9, PAY_0=1, BILL_AMT6=70_000.0,
        PAY_AMT6=9_000.0, PAY_AMT5=35_000.0, BILL_AMT1=500.0, PAY_AMT1=500.0, BILL_AMT2=-1e6,
        SEX=1, EDUCATION_2=1, MARRIAGE_1=1, **{DEFAULT: 1},
    )  # fmt: skip
    assert seen.shape == (6, FEATURES)
    assert seen[:, 0].tolist() == [0, 0, 0, 1, 4, 0.5]  # April to September
    assert seen[:4, 1:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert seen[[0, 2, 4], 4].tolist() == [0.5, 0, -1]
    assert seen[0, 5].item() == pytest.approx(np.log1p(70) / 2 - 1)
    assert seen[4, 5].item() == pytest.approx(-np.log1p(1000) / 2 - 1)
    assert seen[0, 6].item() == pytest.approx(np.log1p(9) - 1)
    assert seen[:, 7].tolist() == [0, 0.5, 0, 0, 0, 0.5]  # of the bill of the month before
    assert seen[:, 8:].tolist() == [[0, 0, 1, 0, 1, 0, 1, 0]] * 6
    assert missed == 1.0


@given(month=st.integers(0, 5), amount=st.floats(-1e5, 1e6))
def test_a_month_is_seen_in_its_own_place_only(month, amount):
    names = {"BILL_AMT": MONTHS[month], "PAY_AMT": MONTHS[month]}
    changed, _ = one(**{name + number: amount for name, number in names.items()})
    same = [place for place in range(6) if place != month]
    assert torch.equal(changed[same], one()[0][same])


def test_what_is_asked_for_is_not_seen():
    table = made(20)
    other = customers(table.assign(**{DEFAULT: 1 - table[DEFAULT]}))
    assert torch.equal(customers(table).inputs[0], other.inputs[0])


@given(count=st.integers(1, 12), more=st.integers(0, 40), seed=st.integers(0, 9))
def test_banks_are_of_equal_size_in_the_order_of_limits(count, more, seed):
    table = made(count + more, seed)
    bank = banks(table, count, numpy_rng(seed))
    sizes = np.bincount(bank, minlength=count)
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == count
    limits = table["LIMIT_BAL"].to_numpy()
    ends = [(limits[bank == k].min(), limits[bank == k].max()) for k in range(count)]
    assert all(low <= high for (_, low), (high, _) in itertools.pairwise(ends))


def test_equal_limits_fall_by_chance():
    table = made(40).assign(LIMIT_BAL=50_000.0)
    first, again, other = (banks(table, 2, numpy_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    with pytest.raises(ValueError, match="count: got 0, expected an integer of at least 1"):
        banks(table, 0, numpy_rng(0))


def test_no_customer_is_lost_or_in_two_parts(tmp_path):
    table = made(400).assign(AGE=np.arange(400) / 7)  # by which each customer is known
    owners = credit.credit(write(tmp_path / "cards.csv", table), 4, seed=1)
    assert [owner.name for owner in owners] == [f"bank {k}" for k in range(4)]
    ages = [
        getattr(owner, part).inputs[0][:, 0, 9].tolist()
        for part in ("train", "validation", "test")
        for owner in owners
    ]
    every = [age for part in ages for age in part]
    assert len({*every}) == len(every) == 400
    assert [sum(map(len, ages[at : at + 4])) for at in (0, 4, 8)] == [280, 40, 80]
    limits = [owner.train.inputs[0][:, 0, 8] for owner in owners]
    assert all(low.max() <= high.min() for low, high in itertools.pairwise(limits))
    assert evaluate(credit.new_model(), owners[0].test)["examples"] == len(owners[0].test)


def test_a_seed_deals_again_and_the_same_one_alike(tmp_path):
    path = write(tmp_path / "cards.csv", made(400))
    first, again, other = (credit.credit(path, 2, seed)[0].test.inputs[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_a_bank_with_too_few_customers_is_refused(tmp_path):
    path = write(tmp_path / "cards.csv", made(400))
    with pytest.raises(ValueError, match=r"count: bank \d has: got \d+, expected 60 customers"):
        credit.credit(path, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="PAY_0"), r"expected also \['PAY_0'\]"),
        (lambda t: t.drop(columns="EDUCATION_3"), r"expected also \['EDUCATION_3'\]"),
        (lambda t: t.assign(BILL_AMT3=np.nan), r"got \['BILL_AMT3'\], expected a number in each"),
        (lambda t: t.assign(AGE="old"), r"got \['AGE'\], expected a number in each"),
        (lambda t: t.assign(LIMIT_BAL=0.0), r"LIMIT_BAL: got 0.0, expected limits above 0"),
    ],
)
def test_another_table_is_refused_with_its_name(tmp_path, change, message):
    path = write(tmp_path / "own.csv", change(made(5)))
    with pytest.raises(ValueError, match=f"own.csv: .*{message}"):
        read_credit(path)


def test_further_columns_and_another_order_change_nothing():
    table = made(9)
    other = table.assign(more=1)[["more", *reversed(table.columns)]]
    assert torch.equal(customers(table).inputs[0], customers(other).inputs[0])
