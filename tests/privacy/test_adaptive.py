"""Adaptive clipping by hand, and that the noise it splits adds up again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.privacy.adaptive import AdaptiveClip, split_noise


def test_a_step_by_hand():
    clip = AdaptiveClip(1.0, target_quantile=0.5, rate=0.2)
    assert clip.next(2.0, 0.5) == 2.0
    assert clip.next(2.0, 1.0) == pytest.approx(2 * math.exp(-0.1))
    assert clip.next(2.0, 0.0) == pytest.approx(2 * math.exp(0.1))


def test_the_share_by_hand():
    clip = AdaptiveClip(1.0)
    assert clip.noisy_share([True, True, True, False], 4, 0.0) == 0.75
    assert clip.noisy_share([True, True], 4, 0.0) == 0.75  # two that were expected are missing
    assert clip.noisy_share([], 4, 0.0) == 0.5


def test_one_client_moves_the_share_by_half_a_client():
    clip, others = AdaptiveClip(1.0), [True, False, True]
    without = clip.noisy_share(others, 10, 0.0)
    for bit in (True, False):
        moved = clip.noisy_share([*others, bit], 10, 0.0) - without
        assert abs(moved) == pytest.approx(0.5 / 10)


def test_the_noise_has_its_standard_deviation():
    clip, rng = AdaptiveClip(5.0), np.random.default_rng(0)
    shares = [clip.noisy_share([True] * 50 + [False] * 50, 100, rng.normal()) for _ in range(4000)]
    assert np.std(shares) == pytest.approx(0.05, rel=0.05)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_it_finds_the_quantile_from_far_away(quantile):
    norms = np.random.default_rng(1).lognormal(3.0, 0.5, 1000)
    adaptive, rng = AdaptiveClip(50.0, quantile, first=0.1), np.random.default_rng(2)
    clip = adaptive.first
    for _ in range(300):
        clip = adaptive.next(clip, adaptive.noisy_share(norms <= clip, len(norms), rng.normal()))
    assert clip == pytest.approx(np.quantile(norms, quantile), rel=0.1)


def test_the_split_by_hand():
    """1 / 0.6^2 = 1 / z^2 + 1 / 1^2 for bits with noise 1/2, and z is 3/4."""
    assert split_noise(0.6, 0.5) == pytest.approx(0.75)


@given(st.floats(0.1, 10), st.floats(0.6, 100))
def test_updates_and_bits_together_cost_what_the_round_may(total, times):
    """Squares of what a client moves each by, in standard deviations, add up."""
    count_noise = times * total
    updates = split_noise(total, count_noise)
    assert updates > total
    assert updates**-2 + (0.5 / count_noise) ** 2 == pytest.approx(total**-2)


def test_what_is_out_of_range_is_refused_by_name():
    clip = AdaptiveClip(1.0)
    for call, told in (
        (lambda: AdaptiveClip(0.0), "count_noise: got 0.0"),
        (lambda: AdaptiveClip(1.0, 1.0), "target_quantile: got 1.0"),
        (lambda: AdaptiveClip(1.0, rate=-1.0), "rate: got -1.0"),
        (lambda: AdaptiveClip(1.0, first=math.inf), "first: got inf"),
        (lambda: clip.next(0.0, 0.5), "clip: got 0.0"),
        (lambda: clip.noisy_share([True], 0, 0.0), "cohort: got 0"),
        (lambda: split_noise(0.0, 1.0), "noise_multiplier: got 0.0"),
        (lambda: split_noise(2.0, 1.0), "count_noise: got 1.0, expected more than 1.0, half"),
    ):
        with pytest.raises(ValueError, match=told):
            call()
