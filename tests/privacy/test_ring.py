"""Fixed point: by hand, right on average, a weighted mean, and nothing that wraps round."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.privacy.secure import FixedPoint

RINGS = st.sampled_from([8, 16, 32])


def decoded_sum(coding, changes, examples, rng):
    """Return what a server decodes from the sum of encoded changes."""
    pairs = zip(changes, examples, strict=True)
    total = sum(coding.encode(change, n, rng) for change, n in pairs)
    return coding.decode(total)


def test_elements_by_hand():
    """127 / 10 leaves 12 levels. A client with half the most examples has 6 of them."""
    coding = FixedPoint(8, clients=10, clip=0.6, most_examples=100)
    assert (coding.largest, coding.value_bits) == (12, 4)
    assert coding.step == pytest.approx(0.05)
    encoded = coding.encode(np.array([0.6, -0.6, 0.0, 0.3, 9.0]), 50, numpy_rng(0))
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [6, 250, 0, 3, 6, 6]


def test_a_sum_by_hand():
    """Weights 1 and 3 of 4: the mean of 1 and -1 is -0.5, and of 0 and 1 it is 0.75."""
    coding = FixedPoint(8, clients=2, clip=1, most_examples=63)
    changes = np.array([[1.0, 0.0], [-1.0, 1.0]])
    mean, examples = decoded_sum(coding, changes, [21, 63], numpy_rng(0))
    assert mean.tolist() == [-0.5, 0.75]
    assert examples == pytest.approx(84)


@given(RINGS, st.integers(1, 127))
def test_the_largest_values_of_all_clients_do_not_wrap_round_and_one_level_more_would(bits, n):
    coding = FixedPoint(bits, clients=n, clip=2, most_examples=5)
    assert n * coding.largest < 2 ** (bits - 1) <= n * (coding.largest + 1)
    full = 2 ** (coding.value_bits - 1) - 1
    assert full <= coding.largest < 2 * full + 1
    mean, examples = decoded_sum(coding, [np.array([2.0, -2.0])] * n, [5] * n, numpy_rng(0))
    assert mean.tolist() == [2, -2]
    assert examples == pytest.approx(5 * n)


@given(
    st.floats(-1, 1),
    st.integers(1, 40),
    st.integers(0, 10),
)
def test_rounding_is_right_on_average_and_off_by_less_than_a_level(value, examples, seed):
    coding = FixedPoint(8, clients=3, clip=1, most_examples=40)
    encoded = coding.encode(np.full(20_000, value), examples, numpy_rng(seed)).view(np.int8)
    values, weight = encoded[:-1].astype(float), float(encoded[-1])
    assert abs(weight - examples / 40 * 42) < 1
    assert np.abs(values - value * weight).max() < 1
    assert values.mean() == pytest.approx(value * weight, abs=0.02)  # 5 standard errors at most


def test_the_weight_is_right_on_average():
    coding = FixedPoint(8, clients=100, clip=1, most_examples=1000)  # a single level
    rng = numpy_rng(0)
    weights = [int(coding.encode(np.zeros(0), 600, rng)[-1]) for _ in range(4000)]
    assert set(weights) == {0, 1}
    assert np.mean(weights) == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize(("clients", "largest", "least"), [(10, 12, 84), (100, 1, 400)])
def test_a_sum_is_not_left_to_one_client_by_chance(clients, largest, least):
    """Ten clients need a level each; of a hundred, 0.4 is enough for no sum to be one's."""
    coding = FixedPoint(8, clients, clip=1.0, most_examples=1000)
    assert coding.largest == largest
    for examples in (0, least, 1000):
        coding.encode(np.zeros(2), examples, numpy_rng(0))
    told = (
        r"examples: got .*, expected 0 or at least .*: most_examples=1000 is too large for 8 bits"
    )
    for examples in (1, least - 1):
        with pytest.raises(ValueError, match=told):
            coding.encode(np.zeros(2), examples, numpy_rng(0))


@given(RINGS, st.integers(1, 12), st.integers(0, 99))
def test_the_mean_is_weighted_within_the_step_of_the_grid(bits, n, seed):
    """Weights on the grid are exact; each client's rounding adds less than one level."""
    rng = numpy_rng(seed)
    coding = FixedPoint(bits, clients=n, clip=0.1, most_examples=1)
    coding = FixedPoint(bits, clients=n, clip=0.1, most_examples=coding.largest)
    examples = rng.integers(1, coding.largest, n, endpoint=True).tolist()
    changes = rng.uniform(-0.1, 0.1, (n, 50))
    mean, total = decoded_sum(coding, changes, examples, rng)
    assert total == pytest.approx(sum(examples), rel=1e-9)
    assert mean == pytest.approx(
        np.average(changes, axis=0, weights=examples), abs=n * 0.1 / sum(examples) + 1e-12
    )


def test_equal_changes_come_out_of_any_weights_as_they_were():
    coding = FixedPoint(32, clients=3, clip=1, most_examples=1000)
    change = np.linspace(-1, 1, 50)
    mean, _ = decoded_sum(coding, [change] * 3, [1, 17, 911], numpy_rng(0))
    assert mean == pytest.approx(change, abs=1e-8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 12}, r"bits: got 12, expected one of \[8, 16, 32\]"),
        ({"clients": 0}, "clients: got 0, expected an integer of at least 1"),
        ({"clients": 128}, "clients: got 128, expected at most 127"),
        ({"clip": 0}, "clip: got 0, expected a finite number above 0"),
        ({"most_examples": float("inf")}, "most_examples: got inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    fine = {"bits": 8, "clients": 3, "clip": 1.0, "most_examples": 10}
    with pytest.raises(ValueError, match=message):
        FixedPoint(**fine | settings)


@pytest.mark.parametrize(
    ("values", "examples", "message"),
    [
        ([1.0, np.nan], 1, "values: got 'NaN or infinite', expected finite numbers"),
        ([[1.0]], 1, r"values: got \(1, 1\), expected one dimension"),
        ([1.0], 11, "examples: got 11, expected 0 to 10, the most of one client"),
        ([1.0], -1, "examples: got -1"),
        ([1.0], float("nan"), "examples: got nan"),
    ],
)
def test_what_would_not_fit_is_not_encoded(values, examples, message):
    with pytest.raises(ValueError, match=message):
        FixedPoint(8, 3, 1.0, 10).encode(np.array(values), examples, numpy_rng(0))


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (np.zeros(3, np.uint16), r"total: got 'uint16 \(3,\)', expected uint8 \(d \+ 1,\)"),
        (np.zeros(0, np.uint8), r"total: got 'uint8 \(0,\)'"),
        (np.array([0, 0], np.uint8), "a sum of weights 0', expected 1 to 126"),
        (np.array([0, 127], np.uint8), "a sum of weights 127', expected 1 to 126"),
        (np.array([246, 9], np.uint8), "a sum of values 10', expected at most 9"),
    ],
)
def test_what_is_no_sum_of_encoded_changes_is_not_decoded(total, message):
    with pytest.raises(ValueError, match=message):
        FixedPoint(8, 3, 1.0, 10).decode(total)
