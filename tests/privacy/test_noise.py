"""Clipping by hand, noise that nobody can draw again, and combinations that would leak."""

import pytest
import torch
from torch import nn

from fedlab_helpers import Examples, LocalConfig, Plan, rounds, run, state, strategies
from fedlab_helpers.core import compute
from fedlab_helpers.core.messages import Update
from fedlab_helpers.privacy import Clip, GaussianNoise
from fedlab_helpers.strategies.attacks import Hostile

PLAN = Plan(2, local=LocalConfig(1, 4, 0.1, "sgd"), seed=5)


def end(small_model, clients, *transforms):
    model = small_model()
    history = run(model, clients, strategies.fedavg(), PLAN, transforms=transforms)
    return history, state.of_model(model)


def test_a_long_change_is_scaled_to_the_norm_and_a_short_one_left():
    update = Update(0, {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])})
    clipped = Clip(1.0)(update, {}, torch.Generator())[0]
    assert clipped.delta["a"].tolist() == pytest.approx([0.6, 0.0])
    assert clipped.delta["b"].tolist() == pytest.approx([0.8])
    same, _ = Clip(5.0)(update, {}, torch.Generator())
    assert state.norm(state.subtract(same.delta, update.delta)) == 0
    nothing = Update(0, {"a": torch.zeros(2)})
    assert Clip(1.0)(nothing, {}, torch.Generator())[0].delta["a"].tolist() == [0, 0]


def test_noise_has_the_standard_deviation_asked_for_and_leaves_counters_alone():
    update = Update(0, {"a": torch.zeros(200, 100), "n": torch.tensor(3)})
    noisy, _ = GaussianNoise(0.5)(update, {}, compute.torch_rng(0))
    assert float(noisy.delta["a"].std()) == pytest.approx(0.5, rel=0.03)
    assert float(noisy.delta["a"].mean()) == pytest.approx(0, abs=0.02)
    assert int(noisy.delta["n"]) == 3


def test_secret_noise_is_another_each_time_and_the_records_say_so(small_model, clients, bits):
    (one, first), (_, second) = (end(small_model, clients, GaussianNoise(0.1)) for _ in range(2))
    assert bits(first) != bits(second)
    assert [record.repeatable for record in one] == [False, False]
    assert all(not record.left_out for record in one)


def test_for_teaching_it_can_be_drawn_again(small_model, clients, bits):
    noise = GaussianNoise(0.1, repeatable=True)
    (history, first), (_, second) = (end(small_model, clients, noise) for _ in range(2))
    assert bits(first) == bits(second)
    assert all(record.repeatable for record in history)


def test_the_plans_seed_does_not_give_secret_noise_away(small_model, clients):
    """Whoever knows the seed subtracts what it would have drawn; the secret one stays."""
    plain, noisy = end(small_model, clients)[1], end(small_model, clients, GaussianNoise(0.1))[1]
    known = end(small_model, clients, GaussianNoise(0.1, repeatable=True))[1]
    left = state.norm(state.subtract(noisy, known))
    assert left > 0.5 * state.norm(state.subtract(noisy, plain))


def test_every_row_gets_noise(small_model, clients):
    before, (_, after) = state.of_model(small_model()), end(small_model, clients, GaussianNoise(1))
    moved = (after["embedding.weight"] - before["embedding.weight"]).abs().sum(1)
    assert bool((moved > 0).all())


@pytest.mark.parametrize("transform", [Clip(1.0), GaussianNoise(0.1)])
def test_beside_what_gives_the_change_away_it_is_refused(small_model, clients, transform):
    """SCAFFOLD's variate is the change over steps and rate: the noise would be for nothing."""
    for strategy in (strategies.scaffold(), strategies.qfedavg(0.1, 0.1)):
        with pytest.raises(ValueError, match=r"transforms: got .*covers_extra=True"):
            run(small_model(), clients, strategy, PLAN, transforms=[transform])


def test_row_wise_means_and_noise_exclude_each_other(small_model, clients):
    with pytest.raises(ValueError, match="row by row"):
        run(small_model(), clients, strategies.rowwise(), PLAN, transforms=[GaussianNoise(0.1)])


def test_running_statistics_do_not_pass_by_what_protects():
    data = [Examples((torch.randn(4, 3),), torch.tensor([0, 1, 0, 1]))] * 2
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    options = (model, data, strategies.fedavg(), PLAN)
    for transform in (Clip(1.0), GaussianNoise(0.1), GaussianNoise(0.1, repeatable=True)):
        with pytest.raises(
            ValueError, match=r"transforms: got .*a model without \['0.running_mean"
        ):
            rounds(*options, transforms=[transform])
        rounds(*options, transforms=[transform], shared=lambda name: name.startswith("1."))
    rounds(*options, transforms=[lambda update, kept, rng: (update, kept)])  # it looks on only


def test_noise_moves_no_weight_that_is_frozen(small_model, clients):
    model = small_model()
    model.head.bias.requires_grad_(False)
    options = (model, clients, strategies.fedavg(), PLAN)
    with pytest.raises(ValueError, match=r"model: frozen weights: got \['head.bias'\]"):
        rounds(*options, transforms=[Clip(1.0), GaussianNoise(0.1)])
    rounds(*options, transforms=[Clip(1.0)])
    rounds(*options, transforms=[GaussianNoise(0.1)], shared=lambda name: name != "head.bias")


def test_whole_weights_are_not_clipped(small_model, clients):
    options = (small_model(), clients, strategies.fedavg(sends="weights"), PLAN)
    for transform in (Clip(1.0), Hostile([0], "sign")):
        with pytest.raises(ValueError, match=r"transforms: got .*takes whole weights for changes"):
            rounds(*options, transforms=[transform])
    for transform in (GaussianNoise(0.1), Hostile([0], "nan")):
        rounds(*options, transforms=[transform])


@pytest.mark.parametrize("make", [Clip, GaussianNoise])
@pytest.mark.parametrize("number", [0, -1.0, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(make, number):
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        make(number)


def test_secret_noise_is_no_function_of_the_generator_that_is_handed_in():
    """Of which a CPU's has 32 bits of seed, and all of them can be tried."""
    change = {"a": torch.zeros(50)}
    for repeatable in (False, True):
        noise = GaussianNoise(1.0, repeatable)
        first, again = (noise.of(change, torch.Generator().manual_seed(7))["a"] for _ in range(2))
        assert torch.equal(first, again) == repeatable


class Placed(nn.Sequential):
    """It adds positions that nobody trains, and perhaps turns by complex numbers."""

    def __init__(self, turned=False):
        super().__init__(nn.Linear(3, 2))
        self.register_buffer("places", torch.ones(2))
        if turned:
            self.turn = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    def forward(self, x):
        return super().forward(x) + self.places + (self.turn.abs() if hasattr(self, "turn") else 0)


@pytest.mark.parametrize("transform", [Clip(1.0), GaussianNoise(0.1)])
def test_what_never_moves_may_stand_beside_what_is_protected_complex_weights_may_not(transform):
    data = [Examples((torch.randn(8, 3),), torch.arange(8) % 2) for _ in range(2)]
    history = run(Placed(), data, strategies.fedavg(), PLAN, transforms=[transform])
    assert not any(record.left_out for record in history)
    with pytest.raises(ValueError, match=r"expected a model without complex \['turn'\]"):
        run(Placed(turned=True), data, strategies.fedavg(), PLAN, transforms=[transform])


def test_a_norm_is_of_both_parts_of_a_complex_number():
    held = {"z": torch.tensor([3 + 4j]), "a": torch.tensor([12.0])}
    assert state.norm(held) == 13
    assert state.flatten(held).tolist() == [3, 4, 12]
