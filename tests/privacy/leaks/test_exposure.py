"""Exposure of a secret among eight candidates, by hand."""

import numpy as np
import pytest

from fedlab_helpers.privacy.leaks import exposure

OTHERS = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])


@pytest.mark.parametrize(("loss", "bits"), [(0.5, 3), (1.5, 2), (3.5, 1), (7.5, 0)])
def test_each_bit_halves_the_guesses(loss, bits):
    assert exposure(loss, OTHERS) == pytest.approx(bits)
    assert exposure(loss, OTHERS[::-1].tolist()) == pytest.approx(bits)


def test_a_candidate_as_likely_does_not_stand_before_the_secret():
    assert exposure(1.0, OTHERS) == pytest.approx(3)


def test_without_other_candidates_there_is_nothing_to_guess():
    with pytest.raises(ValueError, match="others: got 0, expected at least one other candidate"):
        exposure(1.0, np.array([]))


@pytest.mark.parametrize(("secret", "others"), [(np.nan, OTHERS), (1.0, [2.0, np.nan])])
def test_a_model_that_answers_nan_is_not_said_to_keep_the_secret(secret, others):
    with pytest.raises(ValueError, match="secret, others: got 'NaN', expected losses"):
        exposure(secret, others)
