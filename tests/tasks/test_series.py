"""Windows over series, and the model that answers them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers import predict
from fedlab_helpers.tasks.objectives import NUMBERS, Numbers
from fedlab_helpers.tasks.series import SeriesRNN, windows

EACH = Numbers(each_step=True)


def counted(steps, **options):
    """Windows over the series 0, 1, 2, … that ask each step for its own number."""
    series = np.arange(float(steps))
    return windows(series[:, None], series, EACH, **options)


def asked_of(data):
    """Return the numbers that are asked for, in order."""
    return data.targets[~data.targets.isnan()].tolist()


def test_windows_by_hand():
    data = counted(8, warm_up=1, asked=3)
    assert data.inputs[0][..., 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert data.targets[:, 0].isnan().all()
    assert data.targets[:, 1:].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert data.objective is EACH
    assert data.inputs[0].dtype == data.targets.dtype == torch.float32


@given(
    steps=st.integers(0, 60),
    warm_up=st.integers(0, 5),
    asked=st.integers(1, 7),
    every=st.integers(1, 3),
    missing=st.sets(st.integers(0, 59)),
)
def test_each_step_is_asked_at_most_once_and_seen_before(steps, warm_up, asked, every, missing):
    series = np.arange(float(steps))
    seen = series[:, None].copy()
    seen[[m for m in missing if m < steps]] = np.nan
    data = windows(seen, series, EACH, warm_up=warm_up, asked=asked, every=every)
    got = asked_of(data)
    assert len({*got}) == len(got)
    assert not {*got} & missing
    assert all(number >= warm_up for number in got)
    assert data.inputs[0].isfinite().all()
    there = ~data.targets.isnan()
    assert torch.equal(data.targets[there], data.inputs[0][..., 0][there])
    assert not there[:, :warm_up].any()
    if not missing and every == 1:
        whole = max(0, (steps - warm_up) // asked)
        assert got == [float(n) for n in range(warm_up, warm_up + whole * asked)]


def test_every_so_many_th_window_is_kept():
    all_of_them, third = (counted(20, warm_up=1, asked=2, every=every) for every in (1, 3))
    assert torch.equal(third.inputs[0], all_of_them.inputs[0][::3])


def test_windows_with_a_gap_or_nothing_to_ask_are_left_out():
    seen, wanted = np.ones((9, 2)), np.ones(9)
    seen[1, 1] = np.nan
    wanted[3:5] = np.nan
    data = windows(seen, wanted, EACH, warm_up=1, asked=2)
    assert data.asked == 4  # the first window has a gap, the second nothing to ask
    assert len(data) == 2


def test_no_window_still_has_a_width():
    data = counted(3, warm_up=2, asked=2)
    assert data.inputs[0].shape == (0, 4, 1)
    assert data.targets.shape == (0, 4)


def test_counts_may_be_asked_and_nothing_is_written_into_them():
    seen, wanted = np.ones((4, 1), int), np.arange(4)
    data = windows(seen, wanted, EACH, warm_up=1, asked=3)
    assert asked_of(data) == [1.0, 2.0, 3.0]
    assert wanted.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warm_up": -1}, "warm_up: got -1, expected an integer of at least 0"),
        ({"asked": 0}, "asked: got 0, expected an integer of at least 1"),
        ({"every": 0}, "every: got 0"),
        ({"targets": np.ones(3)}, r"targets: got \(3,\), expected .* inputs \(4, 1\)"),
        ({"inputs": np.ones(4)}, r"targets: got \(4,\), expected .* inputs \(4,\)"),
        ({"targets": np.array([1, 1, np.inf, 1])}, "Numbers: targets.*finite"),
    ],
)
def test_what_makes_no_window_is_refused(change, message):
    usual = {"inputs": np.ones((4, 1)), "targets": np.ones(4), "warm_up": 1, "asked": 2}
    with pytest.raises(ValueError, match=message):
        windows(**{"objective": EACH, **usual, **change})


# The model


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_no_step_sees_what_follows_it(cell):
    model = SeriesRNN(2, 5, cell=cell, each_step=True, seed=0)
    series = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(1))
    other = series.clone()
    other[:, 4:] += 1
    assert model(series).shape == (3, 6)
    assert torch.equal(model(series)[:, :4], model(other)[:, :4])
    assert not torch.equal(model(series)[:, 4:], model(other)[:, 4:])


def test_the_last_step_is_that_of_its_length():
    each, last = (SeriesRNN(2, 5, each_step=each, seed=0) for each in (True, False))
    series = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1, 4, 6])
    steps = each(series)
    # A product of other rows may be summed in another order.
    torch.testing.assert_close(last(series, lengths), steps[torch.arange(3), lengths - 1])
    torch.testing.assert_close(last(series), steps[:, -1])
    torch.testing.assert_close(each(series, lengths), steps)


def test_a_seed_repeats_the_weights():
    first, again, other = (SeriesRNN(2, 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_model_answers_windows():
    data = counted(20, warm_up=2, asked=3)
    assert predict(SeriesRNN(1, 4, each_step=True, seed=0), data).shape == data.targets.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "features: got 0"),
        ({"hidden_size": 1.5}, "hidden_size: got 1.5"),
        ({"cell": "conv"}, r"cell: got 'conv', expected one of \['bag', 'gru', 'lstm', "),
        ({"dropout": 1.0}, "1.0"),
    ],
)
def test_what_makes_no_model_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SeriesRNN(**{"features": 2, **options})


def test_one_number_for_each_series_can_be_asked_too():
    assert NUMBERS.loss(SeriesRNN(1, 3, seed=0)(torch.zeros(4, 5, 1)), torch.zeros(4)) >= 0
