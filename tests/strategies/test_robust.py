"""Robust combinations, by hand on two numbers, and against liars in whole runs."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core import state
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, rounds, run
from fedlab_helpers.core.strategy import Mean
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import (
    fedavg,
    geometric_median,
    krum,
    median,
    norm_clipping,
    trimmed_mean,
)
from fedlab_helpers.strategies.attacks import Hostile
from fedlab_helpers.strategies.robust import Clipped, GeometricMedian, Krum, Median, TrimmedMean

ZERO = {"w": torch.zeros(2)}


def sent(*values: float, examples: int = 1) -> Update:
    return Update(0, {"w": torch.tensor(values, dtype=torch.float32)}, {}, examples, 1, (1.0,))


def combined(combine, *points) -> list[float]:
    return combine(ZERO, [sent(*point) for point in points])["w"].tolist()


def test_the_median_of_each_weight():
    assert combined(Median(), (1, 9), (2, 8), (99, 7)) == [2, 8]
    assert combined(Median(), (1, 9), (2, 8), (99, 7), (4, 0)) == [3, 7.5]


def test_a_trimmed_mean_by_hand():
    """0.25 of four is one at either end: (2 + 4)/2 and (7 + 8)/2."""
    points = (1, 9), (2, 8), (99, 7), (4, 0)
    assert combined(TrimmedMean(0.25), *points) == [3, 7.5]
    assert combined(TrimmedMean(0), *points) == [106 / 4, 6]


def test_a_trimmed_mean_goes_on_with_those_who_are_left():
    """Of a cohort of five one was lost: of the others, too, one is left out at either end."""
    points = (1, 9), (2, 8), (99, 7), (4, 0)
    assert combined(TrimmedMean(0.2), *points) == [3, 7.5]
    assert combined(TrimmedMean(0.2), *points[:3]) == [2, 8]
    assert combined(TrimmedMean(0.2), *points[1:3]) == [101 / 2, 7.5]
    assert combined(TrimmedMean(0.45), *points[:3]) == [2, 8]


def test_a_trimmed_share_is_rounded_down_as_written():
    """In binary, 0.29 · 100 and 49 / 49 are a little less."""
    values = {"w": torch.cat([torch.full((29,), 1e9), torch.zeros(71)]).double()}
    assert TrimmedMean(0.29).of(values)["w"].item() == 0
    assert TrimmedMean(1 / 49).least_cohort == 49


def test_krum_picks_the_crowd():
    """f = 1 of 5: two neighbours count. (1, 0) has 1 + 1, its neighbours 1 + 4, the liar most."""
    points = (0, 0), (1, 0), (2, 0), (50, 50), (0, 3)
    assert combined(Krum(1), *points) == [1, 0]
    assert combined(Krum(1, keep=3), *points) == [1, 0]  # the mean of the first three


def test_krum_goes_on_with_those_who_are_left():
    """Of a cohort of seven for f = 2, three were refused: f = 0, so all but one neighbour count."""
    points = (0, 0), (1, 0), (2, 0), (50, 50)
    assert combined(Krum(2), *points) == combined(Krum(0), *points) == [1, 0]
    assert combined(Krum(2, keep=4), (1, 0), (3, 0)) == [2, 0]
    assert combined(Krum(2), (1, 0)) == [1, 0]
    assert combined(Krum(2), (-99, 0), (1, 0)) == [-49, 0]  # no crowd, so the mean


def test_the_geometric_median_of_a_triangle_and_of_a_line():
    """Of three points on a line, the middle one; of an equilateral triangle, its centre."""
    assert combined(GeometricMedian(), (0, 0), (1, 0), (90, 0)) == pytest.approx([1, 0], abs=1e-3)
    height = math.sqrt(3) / 2
    centre = combined(GeometricMedian(), (0, 0), (1, 0), (0.5, height))
    assert centre == pytest.approx([0.5, height / 3], abs=1e-6)


def test_the_geometric_median_has_the_least_sum_of_distances():
    points = np.random.default_rng(0).normal(size=(7, 2))
    best = np.array(combined(GeometricMedian(), *points))

    def total(centre):
        return np.linalg.norm(points - centre, axis=1).sum()

    for angle in np.linspace(0, 2 * np.pi, 16):
        assert total(best) <= total(best + 0.01 * np.array([np.cos(angle), np.sin(angle)])) + 1e-6


@pytest.mark.parametrize("far", [1e3, 1e12, 1e30])
def test_no_liar_is_far_enough_away_for_the_geometric_median(far):
    points = np.random.default_rng(0).normal(size=(9, 2)).tolist()
    near = combined(GeometricMedian(), *points, (100, 100))
    assert combined(GeometricMedian(), *points, (far, far)) == pytest.approx(near, abs=0.01)


@pytest.mark.parametrize("combine", [Median(), TrimmedMean(), Krum(0), GeometricMedian()])
def test_whole_weights_give_what_changes_do(combine):
    """Also where clients sent some rows only: the others are those that were received."""
    base, updates = {"table": torch.tensor([[5.0], [7.0], [9.0]])}, []
    for row, value in ((0, 1.0), (1, 2.0), (1, 3.0), (1, 5.0), (2, 4.0)):
        rows = {"table": torch.tensor([row])}
        updates.append(Update(0, {"table": torch.tensor([[value]])}, rows, 1, 1, (1.0,)))
    change = combine({"table": torch.zeros(3, 1)}, updates)["table"]
    sent = [{"table": u.delta["table"] + base["table"][u.touched_rows["table"]]} for u in updates]
    whole = combine(base, [replace(u, delta=d) for u, d in zip(updates, sent, strict=True)])
    assert torch.allclose(whole["table"] - base["table"], change, atol=1e-5)


def test_clipping_by_hand():
    """(3, 4) is shortened to norm 1, (0, 0.5) and (0, 0) stay."""
    assert combined(Clipped(1.0), (3, 4), (0, 0.5), (0, 0)) == pytest.approx([0.2, 1.3 / 3])
    updates = [sent(3, 4, examples=3), sent(0, 0.5)]
    assert Clipped(100.0)(ZERO, updates)["w"].tolist() == Mean()(ZERO, updates)["w"].tolist()


POINTS = st.lists(
    st.tuples(*[st.floats(-100, 100, width=32)] * 2), min_size=5, max_size=9, unique=True
)


@given(POINTS)
def test_without_trimming_it_is_the_uniform_mean(points):
    plain = combined(Mean("uniform"), *points)
    assert combined(TrimmedMean(0), *points) == pytest.approx(plain, rel=1e-6, abs=1e-6)


@given(POINTS, st.floats(-(2.0**120), 2.0**120, width=32))
def test_one_liar_moves_no_median_out_of_the_honest(points, lie):
    for combine in (Median(), TrimmedMean(0.2)):
        for weight, value in enumerate(combined(combine, *points, (lie, -lie))):
            honest = [point[weight] for point in points]
            assert min(honest) - 1e-4 <= value <= max(honest) + 1e-4
    assert (
        min(map(math.dist, [combined(Krum(1), *points, (1e6, 1e6))] * len(points), points)) < 1e-3
    )


@pytest.mark.parametrize(
    "combine", [Median(), TrimmedMean(), Krum(0), GeometricMedian()], ids=lambda c: type(c).__name__
)
def test_rows_are_written_out_and_counters_stay_counters(combine):
    base = {"table": torch.zeros(3, 1), "n": torch.tensor(0)}
    updates = [
        Update(
            0,
            {"table": torch.tensor([[4.0]]), "n": torch.tensor(2)},
            {"table": torch.tensor([1])},
            1,
            1,
            (1.0,),
        )
    ] * 3
    result = combine(base, updates)
    assert result["table"][:, 0].tolist() == [0, 4, 0]
    assert result["n"].dtype is torch.int64
    assert int(result["n"]) == 2


ROBUST = [median(), trimmed_mean(0.25), krum(1, 4), geometric_median(), norm_clipping(0.05)]


def lies(strategy, clients, model, attack) -> float:
    """Return how far one liar of seven moves the end of a run, in lengths of the honest way."""
    plan = Plan(3, local=LocalConfig(1, 8, 0.05, "sgd"))
    ends = []
    for transforms in ([], [Hostile([1], attack, 50.0)]):
        mine = copy.deepcopy(model)
        run(mine, clients, strategy, plan, transforms=transforms)
        ends.append(state.of_model(mine))
    honest = state.norm(state.subtract(ends[0], state.of_model(model)))
    return state.norm(state.subtract(ends[1], ends[0])) / honest


@pytest.mark.parametrize("attack", ["sign", "noise"])
def test_a_liar_carries_a_mean_away_and_not_the_robust(reviews, small_model, attack):
    clients = [reviews(16, seed) for seed in range(7)]
    assert lies(fedavg(), clients, small_model(), attack) > 5
    for strategy in ROBUST:
        assert lies(strategy, clients, small_model(), attack) < 1.5, strategy


def test_a_cohort_too_small_is_refused_before_anybody_trains(reviews, small_model):
    clients = [reviews(8, seed) for seed in range(7)]
    plan = Plan(1, clients_per_round=4)
    with pytest.raises(ValueError, match="cohort: got 4, expected at least 5 clients"):
        rounds(small_model(), clients, krum(1), plan)
    with pytest.raises(ValueError, match="cohort: got 7, expected at least 9 clients"):
        rounds(small_model(), clients, krum(3), Plan(1))


def test_clients_that_send_no_numbers_cannot_stop_krum(reviews, small_model):
    clients = [reviews(8, seed) for seed in range(7)]
    liars = [Hostile([0, 1], "nan", 1.0)]
    model, alone = small_model(), small_model()
    history = run(model, clients, krum(2), Plan(2), transforms=liars)
    assert [len(record.left_out) for record in history] == [2, 2]
    # What is left is Krum among the five others, who allow f = 1.
    others = Plan(2, seed=0)
    run(alone, clients, krum(1), others, transforms=liars)
    assert state.norm(state.subtract(state.of_model(model), state.of_model(alone))) == 0
