"""Arithmetic on states: worked out by hand, and what every mean must satisfy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers.core import state
from fedlab_helpers.core.state import RunningMean, weighted_mean

A = {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([5.0])}
B = {"w": torch.tensor([[0.5, 0.0], [1.0, -4.0]]), "b": torch.tensor([-1.0])}
WEIGHTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**32)
quick = settings(max_examples=50)


def values(mean):
    return {name: tensor.tolist() for name, tensor in mean.items()}


def draw(seed, shape=(4, 3)):
    rng = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(shape, generator=rng), "b": torch.randn(2, generator=rng)}


def assert_close(left, right):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=1e-6, rtol=1e-6)


def test_of_model_is_a_copy_that_training_does_not_change():
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    kept = state.of_model(model)
    live = model.state_dict()
    with torch.no_grad():
        model.weight += 1
    assert not kept["weight"].requires_grad
    assert live["weight"].tolist() == [[1.0, 1.0]]
    assert kept["weight"].tolist() == [[0.0, 0.0]]


def test_clone_shares_no_memory_and_to_device_does_not_copy_in_vain():
    assert state.clone(A)["w"].data_ptr() != A["w"].data_ptr()
    assert state.to_device(A, "cpu")["w"] is A["w"]
    assert state.to_device(A, "meta")["w"].device.type == "meta"


def test_add_subtract_zeros_by_hand():
    assert values(state.subtract(A, B)) == {"w": [[0.5, 2.0], [2.0, 8.0]], "b": [6.0]}
    assert values(state.add(A, B)) == {"w": [[1.5, 2.0], [4.0, 0.0]], "b": [4.0]}
    assert values(state.add(A, B, 2)) == {"w": [[2.0, 2.0], [5.0, -4.0]], "b": [3.0]}
    assert values(state.zeros_like(A)) == {"w": [[0.0, 0.0], [0.0, 0.0]], "b": [0.0]}


def test_add_keeps_a_counter_an_exact_integer():
    big = {"steps": torch.tensor(2**40 + 1)}
    total = state.add(big, {"steps": torch.tensor(2)}, 1.0)["steps"]
    assert total.dtype == torch.int64
    assert int(total) == 2**40 + 3
    assert int(state.add(big, {"steps": torch.tensor(-1)}, 0.6)["steps"]) == 2**40


def test_flatten_and_norm_by_hand():
    flat = state.flatten({"x": torch.tensor([[3.0], [0.0]]), "y": torch.tensor([4])})
    assert flat.dtype == torch.float64
    assert flat.tolist() == [3.0, 0.0, 4.0]
    assert state.norm({"x": torch.tensor([3.0]), "y": torch.tensor([[-4.0]])}) == 5.0
    assert state.norm({}) == 0.0


def test_norm_is_summed_in_float64():
    long = {"x": torch.full((10_000,), 1e-3), "y": torch.tensor([4096.0])}
    assert state.norm(long) == pytest.approx(math.sqrt(4096**2 + 1e-2), rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_all_finite_finds_one_bad_value(bad):
    assert state.all_finite({"x": torch.tensor([1.0, 3e38]), "n": torch.tensor([2**40])})
    assert not state.all_finite(A | {"z": torch.tensor([0.0, bad])})
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.complex64):
        assert state.all_finite({"x": torch.ones(2, dtype=kind), "none": torch.ones(0, dtype=kind)})
        assert not state.all_finite({"x": torch.tensor([[1.0], [bad]]).to(kind)})


@pytest.mark.parametrize("function", [state.add, state.subtract, state.require_same_shapes])
def test_states_that_do_not_match_are_refused_by_name(function):
    with pytest.raises(ValueError, match=r"got \['b', 'c'\], expected the same names in both"):
        function(A, {"w": A["w"], "c": A["b"]})
    with pytest.raises(ValueError, match=r"'b': got \(1,\), expected equal shapes, \(2,\)"):
        function(A, A | {"b": torch.zeros(2)})


def test_weighted_mean_by_hand():
    mean = weighted_mean([A, B], [3, 1])
    assert values(mean) == {"w": [[0.875, 1.5], [2.5, 2.0]], "b": [3.5]}


def test_weighted_mean_leaves_its_inputs_alone_and_takes_iterators():
    before = values(A)
    weighted_mean(iter([A, A]), iter([1, 2]))["w"].zero_()
    assert values(A) == before


@pytest.mark.parametrize(
    ("states", "weights", "message"),
    [
        ([], [], "got 0, expected one weight for each state"),
        ([A], [1, 1], "got 2, expected one weight for each state"),
        ([A, B], [1], "got 1, expected one weight for each state"),
        ([A], [-1], "weight: got -1"),
        ([A], [math.nan], "weight: got nan"),
        ([A], [math.inf], "weight: got inf"),
        ([A, B], [0, 0], "sum to 0"),
        ([A, {"w": A["w"]}], [1, 1], r"got \['b'\], expected the same names"),
        ([A, A | {"b": torch.zeros(2)}], [1, 1], r"'b': got \(2,\), expected equal shapes, \(1,\)"),
    ],
)
def test_weighted_mean_refuses(states, weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_mean(states, weights)


def test_a_running_mean_does_not_stretch_a_small_tensor_over_a_large_one():
    mean = RunningMean({"x": torch.zeros(3, 2)})
    for wrong in (torch.ones(1, 2), torch.ones(2)):
        with pytest.raises(ValueError, match=r"equal shapes, \(3, 2\)"):
            mean.add({"x": wrong}, 1)
    with pytest.raises(ValueError, match=r"equal shapes, \(1, 2\)"):
        mean.add({"x": torch.ones(3, 2)}, 1, {"x": torch.tensor([0])})


def test_a_running_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="sum to 0"):
        RunningMean(A).result()


def rows_mean(base, updates, per_row):
    """Return the mean of one-column updates given as (weight, {row: value} or all values)."""
    mean = RunningMean({"e": torch.tensor(base)[:, None]}, per_row)
    for weight, held in updates:
        rows = {"e": torch.tensor(list(held))} if isinstance(held, dict) else None
        cells = list(held.values()) if isinstance(held, dict) else held
        mean.add({"e": torch.tensor(cells)[:, None]}, weight, rows)
    return mean.result()["e"].flatten().tolist()


SPARSE = [(1, {0: 4.0, 2: 8.0}), (3, {2: 4.0})]


def test_absent_rows_count_as_the_base():
    assert rows_mean([0.0, 0.0, 0.0], SPARSE, per_row=False) == [1.0, 0.0, 5.0]
    assert rows_mean([8.0, 7.0, 0.0], SPARSE, per_row=False) == [7.0, 7.0, 5.0]


def test_per_row_divides_each_row_by_the_weight_of_those_who_sent_it():
    assert rows_mean([0.0, 0.0, 0.0], SPARSE, per_row=True) == [4.0, 0.0, 5.0]
    assert rows_mean([8.0, 7.0, 0.0], SPARSE, per_row=True) == [4.0, 7.0, 5.0]


@pytest.mark.parametrize(("per_row", "expected"), [(False, [2.0, 3.0]), (True, [2.0, 4.5])])
@pytest.mark.parametrize("order", [1, -1])
def test_dense_and_row_updates_mix_in_either_order(per_row, expected, order):
    updates = [(2, [1.0, 4.5]), (2, {0: 3.0})][::order]
    assert rows_mean([0.0, 1.5], updates, per_row) == expected


def test_a_row_sent_with_weight_zero_keeps_the_base():
    updates = [(0, {0: 9.0}), (1, {1: 2.0})]
    assert rows_mean([5.0, 0.0], updates, per_row=True) == [5.0, 2.0]


def test_row_sparse_and_whole_tensors_lie_in_one_update():
    mean = RunningMean(state.zeros_like(A))
    update = {"w": torch.tensor([[2.0, 2.0]]), "b": torch.tensor([6.0])}
    mean.add(update, 1, {"w": torch.tensor([1])})
    mean.add(state.zeros_like(A), 1)
    assert values(mean.result()) == {"w": [[0.0, 0.0], [1.0, 1.0]], "b": [3.0]}


@quick
@given(seed=SEEDS, weights=WEIGHTS)
def test_identical_updates_give_that_update_under_any_weights(seed, weights):
    update = draw(seed)
    assert_close(weighted_mean([update] * len(weights), weights), update)
    for per_row in (False, True):
        base = draw(seed + 1)
        mean = RunningMean(base, per_row)
        rows = {"w": torch.tensor([1, 3])}
        for weight in weights:
            mean.add(update | {"w": update["w"][1::2]}, weight, rows)
        expected = base["w"].clone()
        expected[1::2] = update["w"][1::2]
        assert_close(mean.result(), update | {"w": expected})


@quick
@given(seed=SEEDS, count=st.integers(1, 6), size=st.integers(1, 10_000))
def test_equal_sizes_make_weighted_and_uniform_mean_agree(seed, count, size):
    updates = [draw(seed + i) for i in range(count)]
    assert_close(weighted_mean(updates, [size] * count), weighted_mean(updates, [1] * count))


@quick
@given(seed=SEEDS, weights=WEIGHTS, data=st.data())
def test_permuted_updates_give_the_same_mean(seed, weights, data):
    order = data.draw(st.permutations(range(len(weights))))
    updates = [draw(seed + i) for i in range(len(weights))]
    permuted = weighted_mean([updates[i] for i in order], [weights[i] for i in order])
    assert_close(permuted, weighted_mean(updates, weights))


@quick
@given(seed=SEEDS, weights=WEIGHTS, whole=st.booleans(), data=st.data())
def test_row_sparse_mean_is_the_mean_of_updates_written_out(seed, weights, whole, data):
    base = draw(seed)
    sparse, dense = RunningMean(base), RunningMean(base)
    for i, weight in enumerate(weights):
        update = draw(seed + 1 + i)
        held = sorted(data.draw(st.sets(st.integers(0, 3))))
        written_out = base["w"].clone()
        written_out[held] = update["w"][held]
        dense.add(update | {"w": written_out}, weight)
        if whole and i == 0:
            sparse.add(update | {"w": written_out}, weight)
        else:
            rows = torch.tensor(held, dtype=torch.int64)
            sparse.add(update | {"w": update["w"][rows]}, weight, {"w": rows})
    assert_close(sparse.result(), dense.result())


def test_sums_in_float32_would_lose_what_float64_keeps():
    small, count = 2.0**-24, 1000
    updates = [{"x": torch.tensor([1.0])}] + [{"x": torch.tensor([small])}] * count
    in_float32 = sum(update["x"] for update in updates) / len(updates)
    exact = torch.tensor([(1 + count * small) / (count + 1)])
    assert weighted_mean(updates, [1] * len(updates))["x"].equal(exact)
    assert not in_float32.equal(exact)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (torch.tensor([2**40]), torch.tensor([2**40 + 4]), torch.tensor([2**40 + 3])),
        (torch.tensor([0, 1]), torch.tensor([3, 0]), torch.tensor([2, 0])),
        (torch.tensor([True, False]), torch.tensor([False, True]), torch.tensor([False, True])),
        (
            torch.tensor([1.0], dtype=torch.bfloat16),
            torch.tensor([2.0], dtype=torch.bfloat16),
            torch.tensor([1.75], dtype=torch.bfloat16),
        ),
    ],
)
def test_the_mean_has_the_dtype_of_its_states_and_integers_are_rounded(low, high, expected):
    mean = weighted_mean([{"n": low}, {"n": high}], [1, 3])["n"]
    assert mean.dtype == expected.dtype
    assert mean.equal(expected)


def test_states_on_two_devices_are_refused_and_none_is_lost():
    """In-place sums with a tensor of `meta` raise nothing by themselves, and add nothing."""
    mean = RunningMean({"x": torch.zeros(2)})
    mean.add({"x": torch.ones(2)}, 1)
    with pytest.raises(
        ValueError, match=r"mean: the device of 'x': got .*meta.*, expected cpu.*`to_device`"
    ):
        mean.add({"x": torch.ones(2, device="meta")}, 1)
    assert mean.result()["x"].tolist() == [1, 1]
