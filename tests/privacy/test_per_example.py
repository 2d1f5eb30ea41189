"""DP-SGD by hand, what it must equal without noise, and what it costs in all rounds together."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers import LocalConfig, Plan, run, state, strategies
from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.strategy import Mean
from fedlab_helpers.core.training import train
from fedlab_helpers.privacy import per_example
from fedlab_helpers.privacy.budget import Mechanism, epsilon_of
from fedlab_helpers.privacy.per_example import PerExample
from fedlab_helpers.strategies.dp_sgd import DpSgd
from fedlab_helpers.tasks.objectives import NUMBERS

WHOLE = LocalConfig(1, None, 1.0, "sgd", max_grad_norm=None)  # one step with all examples
FREE = PerExample(math.inf, 0.0)


class Linear(nn.Linear):
    """A linear model that begins at zero; with a target of 1/2 its gradient is minus the input."""

    def __init__(self, inputs, bias=False):
        super().__init__(inputs, 1, bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs):
        return super().forward(inputs)[:, 0]


def lines(*inputs):
    inputs = torch.tensor(inputs, dtype=torch.float32)
    return Examples((inputs,), torch.full((len(inputs),), 0.5), NUMBERS)


def gradient(private, data, config, model=None, seed=0):
    """Return the gradient of one step, as one vector."""
    model = model or Linear(data.inputs[0].shape[1])
    private.hooks(model, data, config, seed).gradients(model)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def trained(model, private, data, config, **options):
    private.train(model, data, config, **options)
    return state.of_model(model)


def test_by_hand():
    """(3, 4) has norm 5 and is cut to a fifth, (0.3, 0) stays; the two are expected."""
    model, data = Linear(2), lines([3, 4], [0.3, 0])
    report = PerExample(1.0, 0.0).train(model, data, WHOLE)
    assert model.weight.flatten().tolist() == pytest.approx([0.45, 0.4])
    assert (report.steps, report.losses) == (1, (pytest.approx(0.25),))


def test_a_tensors_share_of_the_norm_is_that_of_the_whole_gradient():
    """Weight and bias together are (2, 2, 1), of norm 3."""
    found = gradient(PerExample(1.5, 0.0), lines([2, 2]), WHOLE, Linear(2, bias=True))
    assert found.tolist() == pytest.approx([-1, -1, -0.5])


CONFIGS = [
    replace(WHOLE, epochs=3),
    LocalConfig(3, None, 0.05, "adam", max_grad_norm=0.1, weight_decay=0.2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["sgd", "adam"])
def test_without_noise_and_norm_it_is_plain_training(small_model, reviews, config):
    """All of the configuration keeps its meaning."""
    data, plain = reviews(12, 1), small_model()
    train(plain, data, config, seed=3)
    ours = trained(small_model(), FREE, data, config, seed=3)
    apart = state.subtract(ours, state.of_model(plain))
    assert max(float(tensor.abs().max()) for tensor in apart.values()) < 2e-6


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_gradient_is_that_of_an_example_alone(small_model, reviews, cell):
    """Of different lengths, so that batches would be padded; half of them are clipped."""
    data, model = reviews(8, 2), small_model(cell=cell)
    alone = []
    for tokens, length, label in zip(data.tokens, data.lengths, data.labels, strict=True):
        logits = model(tokens[None, :length], length[None])
        loss = nn.functional.cross_entropy(logits, label[None])
        parts = torch.autograd.grad(loss, list(model.parameters()))
        alone.append(torch.cat([part.flatten() for part in parts]).double())
    lengths = torch.stack([vector.norm() for vector in alone])
    clip = float(lengths.median())
    assert 0 < int((lengths > clip).sum()) < 8
    expected = sum(v * min(1.0, clip / float(v.norm())) for v in alone) / 8
    found = gradient(PerExample(clip, 0.0), data, WHOLE, model)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_every_example_is_drawn_by_its_own_coin_and_the_divisor_is_fixed():
    """Twenty examples with a place each, five of them expected."""
    data, model = lines(*torch.eye(20).tolist()), Linear(20)
    hooks, rows = FREE.hooks(model, data, replace(WHOLE, batch_size=5)), []
    for _ in range(600):
        hooks.gradients(model)
        rows.append(model.weight.grad.flatten() * -5)
    drawn = torch.stack(rows)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(drawn.mean(0).min()) > 0.18
    assert float(drawn.mean(0).max()) < 0.32
    assert float(drawn.sum(1).var()) == pytest.approx(20 * 0.25 * 0.75, rel=0.2)
    together = drawn.T @ drawn / 600  # two of them in one step, as often as by chance
    assert float(together.fill_diagonal_(1 / 16).sub(1 / 16).abs().max()) < 0.05


def test_of_a_step_that_draws_nobody_only_noise_is_seen():
    """Noise multiplier 3 and clip 2 are 6 on the sum, and 3 are expected."""
    data, config = lines(*[[1.0] * 20_000] * 9), replace(WHOLE, batch_size=3)
    floats = {"dtype": torch.float64}
    nobody = next(
        seed
        for seed in range(999)
        if (torch.rand(9, generator=torch_rng(seed, "examples"), **floats) > 1 / 3).all()
    )
    noise = PerExample(2.0, 3.0, repeatable=True)
    found = gradient(noise, data, config, seed=nobody)
    assert float(found.std()) == pytest.approx(2.0, rel=0.03)
    assert float(found.mean()) == pytest.approx(0, abs=0.06)
    assert not gradient(replace(noise, noise_multiplier=0.0), data, config, seed=nobody).any()


@given(
    inputs=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=1),
    clip=st.floats(1e-3, 1e3),
    extra=st.lists(st.floats(width=32), min_size=2, max_size=2),
)
def test_one_example_more_moves_the_sum_by_no_more_than_the_norm(inputs, clip, extra):
    """Whatever that example is; the divisor is the number expected, here of all."""
    private, more = PerExample(clip, 0.0), [*inputs, extra]
    without = gradient(private, lines(*inputs), WHOLE).double() * len(inputs)
    moved = gradient(private, lines(*more), WHOLE).double() * len(more) - without
    assert float(moved.norm()) <= clip * (1 + 1e-6 * len(more))


def test_what_no_example_uses_gets_noise_too_and_what_is_frozen_none():
    model = nn.ModuleDict({"used": Linear(2), "idle": nn.Linear(9, 9), "frozen": nn.Linear(2, 2)})
    model.frozen.requires_grad_(False)
    model.forward = model.used.forward
    PerExample(1.0, 1.0).hooks(model, lines([1, 2]), WHOLE).gradients(model)
    assert all(bool(p.grad.all()) for p in (*model.used.parameters(), *model.idle.parameters()))
    assert all(p.grad is None for p in model.frozen.parameters())


def test_examples_of_which_nothing_is_asked_make_no_steps():
    targets = torch.cat([torch.zeros(4).long(), torch.full((36,), -100)])
    data, config = Examples((torch.randn(40, 3),), targets), LocalConfig(2, 2, 0.1, "sgd")
    report = PerExample(1.0, 1.0).train(nn.Linear(3, 2), data, config)
    assert report.steps == config.steps(data.asked) == 4


LOCAL = LocalConfig(2, 60, 0.5, "sgd", max_grad_norm=None)


def test_epsilon_is_that_of_all_steps_of_all_rounds():
    private = PerExample(1.0, 0.9, delta=1e-6)
    account = Mechanism(0.9, 20, 600, 60, "poisson", 1e-6)
    assert private.epsilon(600, LOCAL) == account.epsilon()
    assert private.epsilon(600, LOCAL, 3) == replace(account, rounds=60).epsilon()
    assert private.epsilon(601, LOCAL) == replace(account, rounds=22, clients=601).epsilon()
    assert private.epsilon(600, LOCAL, 0) == 0
    assert replace(private, noise_multiplier=0.0).epsilon(600, LOCAL) == math.inf
    for size in (None, 600, 700):  # everybody in every step: the closed form
        whole = replace(LOCAL, batch_size=size)
        closed = epsilon_of(math.sqrt(2 * 3) / 0.9, 1e-6)
        assert private.epsilon(600, whole, 3) == pytest.approx(closed, abs=1e-12)
    with pytest.raises(ValueError, match="clients: got 0"):
        private.epsilon(0, LOCAL)


@pytest.mark.parametrize(("size", "dropout"), [(None, 0.5), (3, 0.0)], ids=["masks", "coins"])
def test_nothing_that_is_drawn_can_be_drawn_again(small_model, reviews, size, dropout):
    """What hardly any noise leaves apart are dropout masks and coins."""
    config, secret = replace(WHOLE, batch_size=size, epochs=3), PerExample(1.0, 1e-9)
    for private in (secret, replace(secret, repeatable=True)):
        one, other = (
            trained(small_model(dropout=dropout), private, reviews(12), config, seed=4)
            for _ in range(2)
        )
        assert (state.norm(state.subtract(one, other)) > 1e-3) == private.secret


def test_an_example_without_a_finite_gradient_counts_as_zero():
    for odd in ([math.nan, 1], [math.inf, 1], [3e38, 3e38]):
        found = gradient(PerExample(1.0, 0.0), lines([0.3, 0], odd), WHOLE)
        assert float((found * 2 - torch.tensor([-0.3, 0])).norm()) <= 1 + 1e-6


def test_examples_of_which_nothing_is_asked_are_none(small_model, reviews):
    data = reviews(6)
    more = data.with_targets(torch.where(torch.arange(6) < 4, data.labels, -100))
    private, start = PerExample(0.1, 0.0), small_model()
    ours = gradient(private, more, WHOLE, copy.deepcopy(start))
    assert torch.equal(ours, gradient(private, data.subset(range(4)), WHOLE, start))


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2), nn.BatchNorm1d(2))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Normed(), r"buffers: got \['1.num_batches_tracked', '1.running_mean'.*a model without"),
        (Complex(), r"weights: got \['torch.complex64'\]"),
    ],
)
def test_models_that_cannot_be_right_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        PerExample(1.0, 1.0).train(model, lines([1, 2]), WHOLE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 1.0), "clip: got 0.0"),
        ((math.nan, 1.0), "clip: got nan"),
        ((math.inf, 1.0), "clip: got inf, .* noise_multiplier of 0"),
        ((1.0, -1.0), "noise_multiplier: got -1.0"),
        ((1.0, math.inf), "noise_multiplier: got inf"),
        ((1.0, 1.0, 1.0), "delta: got 1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PerExample(*values)


# In a federated run.

PLAN = Plan(2, local=LocalConfig(1, 4, 0.1, "sgd", max_grad_norm=None), seed=5, workers=1)


def end(small_model, clients, strategy, plan=PLAN, **options):
    model = small_model()
    history = run(model, clients, strategy, plan, **options)
    assert all(not record.left_out for record in history)
    return history, state.of_model(model)


def test_without_noise_and_norm_it_is_fedavg(small_model, clients):
    plan = replace(PLAN, local=WHOLE)
    ours, theirs = (
        end(small_model, clients, strategy, plan)
        for strategy in (DpSgd(private=FREE), strategies.fedavg())
    )
    for name, tensor in ours[1].items():
        assert torch.allclose(tensor, theirs[1][name], atol=2e-6)
    assert ours[0][0].client_losses == theirs[0][0].client_losses
    assert all(record.repeatable for record in ours[0])


def test_updates_are_whole_and_another_each_time_and_records_say_so(small_model, clients, bits):
    uniform = replace(strategies.dp_sgd(), combine=Mean("uniform"))
    (one, first), (_, second) = (end(small_model, clients, uniform) for _ in range(2))
    assert bits(first) != bits(second)
    assert [record.repeatable for record in one] == [False, False]
    start = state.of_model(small_model())
    assert bool((first["embedding.weight"] != start["embedding.weight"]).all())
    again = strategies.dp_sgd(repeatable=True)
    (two, third), (_, fourth) = (end(small_model, clients, again) for _ in range(2))
    assert bits(third) == bits(fourth)
    assert all(record.repeatable for record in two)


def test_clients_and_rounds_draw_by_themselves(small_model, reviews):
    """Two clients with the same reviews would else share their noise, which could be subtracted."""
    moves, twice = [], [reviews(8, 0)] * 2
    for size in (1, 2):
        noisy = DpSgd(private=PerExample(1e-3, 1e3, repeatable=True))
        plan = replace(PLAN, local=replace(WHOLE, epochs=2), rounds=2)
        _, after = end(small_model, twice[:size], noisy, plan)
        moves.append(state.norm(state.subtract(after, state.of_model(small_model()))))
    assert moves[0] / moves[1] == pytest.approx(math.sqrt(2), rel=0.1)


def test_a_model_with_running_statistics_is_refused_in_a_run_too():
    with pytest.raises(NoUpdateLeft, match="buffers: got"):
        run(Normed(), [lines([1, 2], [3, 4])], strategies.dp_sgd(), PLAN)


@pytest.mark.parametrize("repeatable", [False, True])
def test_coins_and_noise_are_drawn_secretly_unless_they_may_be_repeated(monkeypatch, repeatable):
    """A generator, whoever seeds it, has 32 bits of seed on a CPU."""
    handed = []

    def watch(draw):
        def watched(size, rng):
            handed.append(rng)
            return draw(size, rng)

        return watched

    for name in ("normal", "uniform"):
        monkeypatch.setattr(per_example, name, watch(getattr(per_example, name)))
    private = PerExample(1.0, 1.0, repeatable=repeatable)
    private.train(Linear(2), lines([1.0, 0.0], [0.0, 1.0]), WHOLE)
    assert len(handed) == 2
    assert [rng is None for rng in handed] == [not repeatable] * 2
