"""Canaries find what is planted, and little where nothing is."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from fedlab_helpers.core import compute, state
from fedlab_helpers.core.messages import Update
from fedlab_helpers.privacy import Clip, GaussianNoise
from fedlab_helpers.privacy.budget import epsilon_of, noise_multiplier_for
from fedlab_helpers.privacy.canaries import Canaries, audit, epsilon_at_least, of_scores

ROUNDS, CLAIM = 20, 8.0
NOISE = noise_multiplier_for(CLAIM, ROUNDS, 100, 100, "all")
LAYERS = {f"layer {k}": torch.zeros(20, 50) for k in range(5)}
SMALL = {"weight": torch.zeros(10, 10), "bias": torch.zeros(9), "seen": torch.zeros(100).long()}


def clip(update):
    return Clip(1.0).clipped(Update(0, update)).delta


def clip_each_layer(update):
    return {name: clip({name: tensor})[name] for name, tensor in update.items()}


def noise_on(total, std, seed):
    noise = GaussianNoise(std, repeatable=True)
    return noise(Update(0, total), {}, seed)[0].delta


def released_by(seed, clip=clip, std=NOISE):
    """A mechanism that clips to 1 and adds noise to the sum."""
    rng = compute.torch_rng(seed)

    def mechanism(updates):
        clipped = [clip(update) for update in updates]
        total = {name: torch.stack([c[name] for c in clipped]).sum(0) for name in clipped[0]}
        return noise_on(total, std, rng) if std else total

    return mechanism


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_honest_claim_is_met_within_a_quarter(seed):
    told = audit(released_by(seed), Canaries(LAYERS, seed=seed), ROUNDS)
    assert told.epsilon == pytest.approx(CLAIM, rel=0.25)
    assert told.mu == pytest.approx(math.sqrt(ROUNDS) / NOISE, rel=0.2)
    assert 1 < told.at_least < CLAIM


def test_clipping_each_of_five_layers_lets_the_root_of_five_through():
    told = audit(released_by(0, clip_each_layer), Canaries(LAYERS), ROUNDS)
    assert told.mu == pytest.approx(math.sqrt(5 * ROUNDS) / NOISE, rel=0.15)


def test_without_noise_there_is_no_bound():
    canaries = Canaries(SMALL, 40)
    assert audit(released_by(0, std=0), canaries, 2).epsilon > 1e6
    scores = np.where(canaries.inside, 1.0, 0.0)[:, None]
    assert of_scores(scores, canaries.inside).epsilon == math.inf


def test_who_never_takes_part_is_not_told_apart():
    canaries = Canaries(LAYERS)

    def without_updates(updates):
        return noise_on(state.zeros_like(LAYERS), NOISE, rng)

    rng = compute.torch_rng(0)
    told = audit(without_updates, canaries, ROUNDS)
    assert told.epsilon < 0.1 * CLAIM
    assert told.at_least < 0.1 * CLAIM
    assert of_scores(np.zeros((500, 5)), canaries.inside).epsilon == 0


def test_one_flat_tensor_will_do():
    told = audit(released_by(0), Canaries({"all": torch.zeros(5000)}), ROUNDS)
    assert told.epsilon == pytest.approx(CLAIM, rel=0.25)


def test_directions_are_orthogonal_and_shared_out_evenly():
    canaries = Canaries(LAYERS, 200, norm=3.0)
    updates = torch.stack([state.flatten(canaries.update(k)) for k in range(200)])
    assert torch.allclose(updates @ updates.T, 9 * torch.eye(200).double(), atol=1e-4)
    for tensor in canaries.update(7).values():
        assert float(tensor.norm()) == pytest.approx(3 / math.sqrt(5))


def test_scores_are_inner_products_with_the_directions():
    canaries = Canaries(LAYERS, 50, norm=math.sqrt(5))
    released = {n: torch.randn(t.shape, generator=compute.torch_rng(1)) for n, t in LAYERS.items()}
    update = canaries.update(3)
    by_hand = [float((update[name] * released[name]).sum()) for name in LAYERS]
    assert canaries.scores(released)[3] == pytest.approx(by_hand, abs=1e-4)


def test_directions_come_from_the_seed():
    def flat(seed):
        return state.flatten(Canaries(LAYERS, 50, seed=seed).update(3))

    assert torch.equal(flat(4), flat(4))
    assert abs(float(flat(4) @ flat(5))) < 0.1 * 100**2


def test_about_half_take_part():
    canaries = Canaries(LAYERS, 1000)
    assert 450 < canaries.inside.sum() < 550
    assert len(canaries.updates()) == canaries.inside.sum()


def test_small_tensors_and_counters_are_left_alone():
    canaries = Canaries(SMALL, 40)
    assert canaries.tensors == ("weight",)
    update = canaries.update(0)
    assert not update["bias"].any()
    assert not update["seen"].any()
    assert update["seen"].dtype == torch.int64
    assert Canaries(SMALL, 9).tensors == ("weight", "bias")


def test_tensors_count_as_independent_looks():
    """Two tensors with a separation of 3 and 4 standard deviations make 5."""
    rng = np.random.default_rng(0)
    inside = rng.random(20_000) < 0.5
    scores = rng.normal(size=(20_000, 2)) + np.outer(inside, [3, 4])
    told = of_scores(scores, inside)
    assert told.mu == pytest.approx(5, rel=0.02)
    assert told.epsilon == epsilon_of(told.mu, 1e-5)


def test_ten_right_guesses_of_ten_by_hand():
    """Each is right with probability p at most, and p^10 is 0.05 at the bound."""
    p = 0.05**0.1
    assert epsilon_at_least(10, 10, 10, 0.0) == pytest.approx(math.log(p / (1 - p)), abs=1e-5)
    assert epsilon_at_least(5, 10, 10, 0.0) == epsilon_at_least(0, 10, 10, 0.0) == 0


def test_what_delta_adds_by_hand():
    """All four right, at epsilon 0.1; three and two are likelier than three, on average."""
    p = 1 / (1 + math.exp(-0.1))
    three, two = 4 * p**3 * (1 - p), 6 * p**2 * (1 - p) ** 2
    assert (three + two) / 2 > three
    chance = p**4 + 2 * 5 * 0.01 * (three + two) / 2
    assert epsilon_at_least(4, 4, 5, 0.01, confidence=1 - chance) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 3.0])
def test_the_bound_holds_in_19_audits_of_20(epsilon):
    """Of randomised response, which is right as often as its epsilon lets it be."""
    p = 1 / (1 + math.exp(-epsilon))
    wrong = [v for v in range(101) if epsilon_at_least(v, 100, 100, 0.0) > epsilon]
    assert 0.005 < binom.pmf(wrong, 100, p).sum() <= 0.05


def test_what_is_out_of_range_is_refused_by_name():
    canaries = Canaries(SMALL, 40)
    inside = np.arange(10) < 5
    for call, told in (
        (lambda: Canaries(SMALL, 0), "count: got 0"),
        (lambda: Canaries(SMALL, 101), "count: got 101, expected at most 100, the values of"),
        (lambda: Canaries({"n": torch.tensor(3)}, 1), "count: got 1, expected at most 0"),
        (lambda: Canaries(SMALL, 40, norm=0.0), "norm: got 0.0"),
        (lambda: canaries.update(40), "canary: got 40, expected 0 to 39"),
        (lambda: canaries.scores({"weight": torch.zeros(10, 10)}), "released: got"),
        (lambda: audit(released_by(0), canaries, 0), "rounds: got 0"),
        (lambda: of_scores(np.zeros(10), inside), r"scores: got \(10,\)"),
        (lambda: of_scores(np.zeros((10, 1)), np.arange(10) < 1), "inside: got 1, expected 2 to 8"),
        (lambda: of_scores(np.zeros((10, 1)), inside, 0.0), "delta: got 0.0"),
        (lambda: of_scores(np.full((10, 1), np.nan), inside), "scores: got 'NaN or infinite'"),
        (lambda: epsilon_at_least(3, 2, 10, 0.0), "right: got 3, expected 0 to 2"),
        (lambda: epsilon_at_least(3, 12, 10, 0.0), "guesses: got 12, expected at most 10"),
        (lambda: epsilon_at_least(3, 5, 10, 1.0), "delta: got 1.0"),
        (lambda: epsilon_at_least(3, 5, 10, 0.0, 1.0), "confidence: got 1.0"),
    ):
        with pytest.raises(ValueError, match=told):
            call()
