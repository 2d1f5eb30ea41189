"""Local training and evaluation, on a task small enough to check by hand."""

import copy
import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fedlab_helpers.core import state
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.training import (
    Adam,
    Hooks,
    LocalConfig,
    Stopped,
    clip_gradients,
    evaluate,
    judged,
    predict,
    train,
)
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

NO_REVIEWS = EncodedReviews(
    torch.zeros(0, 3, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
)


class Scores(nn.Module):
    """One weight a class, whatever the words: its gradient can be worked out by hand."""

    def __init__(self, *weights: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, tokens, lengths):
        return self.weight.expand(len(tokens), -1)


class Echo(nn.Module):
    """Its logits tell the first word and the length of the review they belong to."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, tokens, lengths):
        return torch.stack([tokens[:, 0], lengths], 1).float()


def labelled(*labels: int) -> EncodedReviews:
    ones = torch.ones(len(labels), dtype=torch.int64)
    return EncodedReviews(ones[:, None], ones, torch.tensor(labels))


def test_one_step_of_sgd_by_hand():
    model = Scores(0.0, 0.0)
    # Softmax gives (1/2, 1/2); the mean label is (3/4, 1/4); so the gradient is (-1/4, 1/4).
    config = LocalConfig(batch_size=None, lr=2.0, optimizer="sgd", max_grad_norm=None)
    report = train(model, labelled(0, 0, 0, 1), config)
    assert model.weight.tolist() == pytest.approx([0.5, -0.5])
    assert report.steps == 1
    assert report.losses == (pytest.approx(math.log(2)),)


def test_gradients_do_not_pile_up_from_step_to_step():
    model = Scores(0.0, 0.0)
    train(model, labelled(0, 0, 0, 1), LocalConfig(2, None, 2.0, "sgd", max_grad_norm=None))
    # From (1/2, -1/2) softmax gives 1 / (1 + 1/e) to class 0, whose share is 3/4.
    second = 0.5 - 2 * (1 / (1 + math.exp(-1)) - 0.75)
    assert model.weight.tolist() == pytest.approx([second, -second])


def test_weight_decay_by_hand():
    model = Scores(1.0, 1.0)
    config = LocalConfig(1, None, 1.0, "sgd", max_grad_norm=None, weight_decay=0.1)
    train(model, labelled(0, 1), config)
    assert model.weight.tolist() == pytest.approx([0.9, 0.9])


@settings(max_examples=60)
@given(
    shapes=st.lists(st.sampled_from([(), (3,), (2, 17), (130, 3)]), min_size=1, max_size=3),
    exponents=st.sampled_from([(-2, 2), (-13, -8), (-17, -14), (-24, -18), (-44, -36)]),
    zeros=st.sampled_from([0.0, 0.5, 1.0]),
    lr=st.sampled_from([5e-3, 0.1]),
    weight_decay=st.sampled_from([0.0, 0.01]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_adam_is_torchs_to_the_bit(bits, shapes, exponents, zeros, lr, weight_decay, dtype, seed):
    """Also where gradients are zero, or so small that their squares are denormal numbers."""
    rng = torch.Generator().manual_seed(seed)

    def drawn(shape, low, high):
        sizes = 10.0 ** (low + (high - low) * torch.rand(shape, generator=rng))
        values = sizes * torch.randn(shape, generator=rng)
        return (values * (torch.rand(shape, generator=rng) >= zeros)).to(dtype)

    ours = [nn.Parameter(drawn(shape, *exponents)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    decay = {"weight_decay": weight_decay}
    optimizers = Adam(ours, lr, **decay), torch.optim.Adam(theirs, lr, **decay)
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for mine, yours in zip(ours, theirs, strict=True):
            if torch.rand((), generator=rng) < 0.8:  # else a step without a gradient
                gradient = drawn(mine.shape, *exponents)
                mine.grad, yours.grad = gradient, gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
        assert bits(dict(enumerate(ours))) == bits(dict(enumerate(theirs)))


def test_adam_takes_no_root_that_mkl_is_slow_at(monkeypatch):
    smallest, root = [], torch.Tensor.sqrt_
    monkeypatch.setattr(torch.Tensor, "sqrt_", lambda t: smallest.append(float(t.min())) or root(t))
    table = nn.Parameter(torch.ones(3))
    optimizer = Adam([table], 0.1)
    for values in ([0.0, 1e-25, 1.0], [0.0, 0.0, 0.0]):
        table.grad = torch.tensor(values)
        optimizer.step()
    assert len(smallest) == 2
    assert min(smallest) > 9e-38


def test_clipping_by_hand():
    model = Scores(0.0, 0.0)
    config = LocalConfig(1, None, 1.0, "sgd", max_grad_norm=0.1)
    train(model, labelled(0, 0), config)  # the gradient is (-1/2, 1/2), of length 0.707
    assert model.weight.tolist() == pytest.approx([0.1 / math.sqrt(2), -0.1 / math.sqrt(2)], 1e-4)


def test_an_epochs_loss_is_the_mean_over_reviews_not_over_batches():
    # A learning rate this small leaves the weights; 3 of 4 reviews cost -log(3/4), one -log(1/4).
    model = Scores(math.log(3.0), 0.0)
    config = LocalConfig(2, batch_size=3, lr=1e-12, optimizer="sgd")
    report = train(model, labelled(0, 0, 0, 1), config)
    mean = -(3 * math.log(3 / 4) + math.log(1 / 4)) / 4
    assert report.losses == (pytest.approx(mean), pytest.approx(mean))
    assert report.steps == 4


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_loss_falls_and_the_task_is_learnt(reviews, small_model, optimizer):
    model, data = small_model(), reviews(120, seed=1)
    before = evaluate(model, data)
    config = LocalConfig(12, 16, {"adam": 0.05, "sgd": 1.0}[optimizer], optimizer)
    report = train(model, data, config)
    after = evaluate(model, data)
    assert report.losses[-1] < report.losses[0]
    assert after.loss < 0.5 * before.loss
    assert after.accuracy > 0.85


def trained(model: nn.Module, data: EncodedReviews, **options):
    model = copy.deepcopy(model)
    train(model, data, LocalConfig(2, 4), **options)
    return state.of_model(model)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    reviews, small_model, bits, dropout
):
    model, data = small_model(dropout=dropout), reviews(20)
    torch.manual_seed(1)
    first = trained(model, data, seed=5)
    torch.manual_seed(2)
    assert bits(trained(model, data, seed=5)) == bits(first)
    assert bits(trained(model, data, seed=6)) != bits(first)


def test_the_seed_decides_the_dropout_masks_too(reviews, small_model, bits):
    data = reviews(20)
    config = LocalConfig(1, None)  # one batch: the order of the reviews is all but idle
    weights = []
    for seed in (1, 2):
        model = small_model(dropout=0.5)
        train(model, data, config, seed=seed)
        weights.append(model.head.weight.detach())
    assert (weights[0] - weights[1]).abs().max() > 1e-4


def test_training_leaves_the_global_random_state_alone(reviews, small_model):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(small_model(dropout=0.5), reviews(9), LocalConfig())
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_of_one_training_reaches_into_the_next(reviews, small_model, bits):
    """A model that trained before ends like a fresh one that starts from the same weights."""
    used, data = small_model(), reviews(16)
    train(used, data, LocalConfig())
    fresh = small_model()
    fresh.load_state_dict(used.state_dict())
    assert bits(trained(used, data, seed=1)) == bits(trained(fresh, data, seed=1))


def test_a_loss_hook_changes_what_is_differentiated_not_what_is_reported():
    model = Scores(0.0, 0.0)
    seen = []

    def thrice(given, loss):
        seen.append(given)
        return 3 * loss

    config = LocalConfig(1, None, 2.0, "sgd", max_grad_norm=None)
    report = train(model, labelled(0, 0, 0, 1), config, hooks=Hooks(loss=thrice))
    assert model.weight.tolist() == pytest.approx([1.5, -1.5])
    assert report.losses == (pytest.approx(math.log(2)),)
    assert seen == [model]


def test_a_gradient_hook_comes_before_clipping():
    model = Scores(0.0, 0.0)

    def double(given):
        given.weight.grad.mul_(2)

    config = LocalConfig(1, None, 1.0, "sgd", max_grad_norm=0.1)
    train(model, labelled(0, 0), config, hooks=Hooks(gradients=double))
    assert float(model.weight.detach().norm()) == pytest.approx(0.1, rel=1e-4)


@given(
    shapes=st.lists(st.sampled_from([(), (3,), (2, 4), (5, 1)]), min_size=1, max_size=4),
    scale=st.sampled_from([1e-6, 1e-2, 1.0, 1e4]),
    limit=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_clipping_is_clip_grad_norm(shapes, scale, limit, seed):
    rng = torch.Generator().manual_seed(seed)
    ours = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in shapes])
    for parameter in ours:
        parameter.grad = scale * torch.randn(parameter.shape, generator=rng)
    theirs = copy.deepcopy(ours)
    for mine, yours in zip(ours, theirs, strict=True):
        yours.grad = mine.grad.clone()
    clip_gradients(ours, limit)
    nn.utils.clip_grad_norm_(theirs.parameters(), limit)
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-6, atol=1e-6 * scale)


def test_clipping_passes_over_parameters_without_gradient():
    model = nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))])
    model[1].grad = torch.tensor([4.0])
    clip_gradients(model, 1.0)
    assert model[0].grad is None
    assert model[1].grad.tolist() == pytest.approx([1.0], rel=1e-5)


def test_stop_ends_training_between_two_batches(reviews, small_model):
    stop, steps = threading.Event(), []

    def stop_at_the_second(model):
        steps.append(model)
        if len(steps) == 2:
            stop.set()

    with pytest.raises(Stopped):
        train(
            small_model(),
            reviews(20),
            LocalConfig(3, 4),
            hooks=Hooks(gradients=stop_at_the_second),
            stop=stop,
        )
    assert len(steps) == 2


def test_training_ends_after_so_many_steps_also_within_an_epoch(reviews, small_model, bits):
    """Ten reviews in batches of four: three steps an epoch; each end is a place on one way."""
    data, config, way = reviews(10), LocalConfig(2, 4), []
    whole = small_model(dropout=0.3)
    hooks = Hooks(gradients=lambda model: way.append(bits(state.of_model(model))))
    report = train(whole, data, config, hooks=hooks)
    way.append(bits(state.of_model(whole)))
    for limit in (1, 2, 3, 4, 6, 99, None, np.int64(5)):
        model = small_model(dropout=0.3)
        short = train(model, data, config, max_steps=limit)
        assert short.steps == min(limit or 6, 6)
        assert bits(state.of_model(model)) == way[short.steps]
        assert len(short.losses) == (1 if short.steps <= 3 else 2)
        assert short.losses[0] == report.losses[0] or short.steps < 3
    assert report.steps == 6


def test_the_loss_of_an_unfinished_epoch_is_of_the_reviews_that_were_seen():
    """A rate this small leaves the weights: each of four reviews costs -log(3/4)."""
    model, data = Scores(math.log(3.0), 0.0), labelled(0, 0, 0, 0)
    config = LocalConfig(3, batch_size=3, lr=1e-12, optimizer="sgd")
    cost = pytest.approx(-math.log(3 / 4))
    losses = [train(model, data, config, max_steps=limit).losses for limit in (1, 2, 3)]
    assert losses == [(cost,), (cost,), (cost, cost)]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2"])
def test_no_step_to_take_is_an_error_by_name(reviews, small_model, bits, limit):
    model = small_model()
    before = bits(state.of_model(model))
    with pytest.raises(ValueError, match=f"max_steps: got {limit!r}, expected an integer of at"):
        train(model, reviews(9), LocalConfig(), max_steps=limit)
    assert bits(state.of_model(model)) == before


@given(
    examples=st.integers(1, 30),
    epochs=st.integers(1, 3),
    batch_size=st.none() | st.integers(1, 40),
)
def test_a_config_tells_the_steps_that_training_takes(examples, epochs, batch_size):
    config = LocalConfig(epochs, batch_size, 0.1, "sgd")
    report = train(Scores(0.0, 0.0), labelled(*[0] * examples), config)
    assert config.steps(examples) == report.steps


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_predictions_come_in_order_whatever_the_lengths(lengths, batch_size):
    tokens = torch.arange(1, len(lengths) + 1)[:, None].repeat(1, 5)
    data = EncodedReviews(tokens, torch.tensor(lengths), torch.zeros(len(lengths)).long())
    expected = [[i + 1.0, float(length)] for i, length in enumerate(lengths)]
    assert predict(Echo(), data, batch_size).tolist() == expected


def test_predictions_are_those_of_each_review_alone(reviews, small_model):
    model, data = small_model(dropout=0.5), reviews(17)
    model.eval()
    alone = torch.cat([model(data.tokens[i : i + 1], data.lengths[i : i + 1]) for i in range(17)])
    torch.testing.assert_close(predict(model, data, 5), alone.detach(), rtol=0, atol=1e-6)


def test_metrics_by_hand():
    # Logits (log 3, 0) are probabilities (3/4, 1/4): class 0 is the answer, right for 2 of 3.
    metrics = evaluate(Scores(math.log(3.0), 0.0), labelled(0, 1, 0))
    loss = -(2 * math.log(3 / 4) + math.log(1 / 4)) / 3
    assert (metrics.loss, metrics.accuracy) == pytest.approx((loss, 2 / 3))
    assert metrics == {"loss": metrics.loss, "accuracy": metrics.accuracy, "examples": 3}


def test_evaluation_does_not_depend_on_the_batch_size(reviews, small_model):
    model, data = small_model(), reviews(31)
    one, many = evaluate(model, data, 4), evaluate(model, data)
    assert one.loss == pytest.approx(many.loss, abs=1e-6)
    assert one.accuracy == many.accuracy
    logits = predict(model, data)
    assert many.loss == pytest.approx(float(cross_entropy(logits, data.labels)))


def test_evaluation_is_without_dropout_and_leaves_no_trace(reviews, small_model, bits):
    """The mode of each module comes back as it was, and so do weights and gradients."""
    model, data = small_model(dropout=0.9), reviews(8)
    model.train()
    model.recurrent.eval()  # a reader may have frozen a part
    modes, before = [m.training for m in model.modules()], bits(state.of_model(model))
    assert evaluate(model, data) == evaluate(model, data)
    assert [m.training for m in model.modules()] == modes
    assert bits(state.of_model(model)) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_takes_one_intra_op_thread(reviews, small_model, monkeypatch):
    model, before, used = small_model(), torch.get_num_threads(), []
    whole = model.forward

    def forward(*inputs):
        used.append(torch.get_num_threads())
        return whole(*inputs)

    monkeypatch.setattr(model, "forward", forward)
    with intra_op_threads(before + 2):
        evaluate(model, reviews(8))
        predict(model, reviews(8))
        assert torch.get_num_threads() == before + 2
    assert used == [1, 1]


def test_the_mode_comes_back_after_an_error_too(reviews, small_model):
    model = small_model()
    model.train()
    data = reviews(3)
    unknown_words = EncodedReviews(data.tokens + 99, data.lengths, data.labels)
    with pytest.raises(IndexError):
        predict(model, unknown_words)
    assert all(module.training for module in model.modules())


def test_training_puts_every_module_into_training_mode(reviews, small_model):
    model = small_model(dropout=0.5)
    model.eval()
    train(model, reviews(4), LocalConfig())
    assert all(module.training for module in model.modules())


def test_no_review_is_an_error_by_name(small_model):
    for attempt in (
        lambda: train(small_model(), NO_REVIEWS, LocalConfig()),
        lambda: evaluate(small_model(), NO_REVIEWS),
        lambda: predict(small_model(), NO_REVIEWS),
    ):
        with pytest.raises(ValueError, match=r"data: got .*, expected at least one"):
            attempt()


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("epochs", 0, "an integer of at least 1"),
        ("epochs", -1, "an integer of at least 1"),
        ("epochs", 1.5, "an integer of at least 1"),
        ("epochs", None, "an integer of at least 1"),
        ("batch_size", 0, "an integer of at least 1, or None"),
        ("batch_size", 2.5, "an integer of at least 1, or None"),
        ("batch_size", "32", "an integer of at least 1, or None"),
        ("lr", 0.0, "a finite number above 0"),
        ("lr", -1e-3, "a finite number above 0"),
        ("lr", math.nan, "a finite number above 0"),
        ("lr", math.inf, "a finite number above 0"),
        ("lr", "0.1", "a finite number above 0"),
        ("max_grad_norm", 0.0, "a positive number, or None"),
        ("max_grad_norm", math.nan, "a positive number, or None"),
        ("weight_decay", -0.1, "a number not below 0"),
        ("weight_decay", math.nan, "a number not below 0"),
        ("weight_decay", None, "a number not below 0"),
    ],
)
def test_config_errors_name_argument_value_and_what_is_accepted(name, value, accepted):
    with pytest.raises(ValueError, match=rf"^{name}: got {value!r}, expected {accepted}$"):
        LocalConfig(**{name: value})


def test_numpys_numbers_are_numbers():
    config = LocalConfig(np.int64(2), np.int32(4), np.float64(0.1), weight_decay=np.float32(0))
    assert config == LocalConfig(2, 4, 0.1)


# What is judged, a row a target


class Gives(nn.Module):
    """Answers each example with its one input, and writes down how it was called."""

    def __init__(self):
        super().__init__()
        self.unused, self.calls = nn.Parameter(torch.zeros(1)), []

    def forward(self, series):
        self.calls.append((len(series), self.training))
        return series


def asked_numbers(answers, targets):
    return Examples((torch.tensor(answers),), torch.tensor(targets), Numbers(each_step=True))


def test_a_row_is_judged_for_each_target_that_is_asked():
    data = asked_numbers([[1.0, 2.0], [3.0, 4.0]], [[0.0, math.nan], [math.nan, 1.0]])
    model = Gives()
    assert judged(model, data, batch_size=1).tolist() == [[1.0, 1.0], [9.0, 3.0]]
    assert model.calls == [(1, False), (1, False)]
    assert model.training
    assert evaluate(model, data) == {
        "loss": 5.0, "rmse": math.sqrt(5), "mae": 2.0, "examples": 2,
    }  # fmt: skip


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9),
    batch_size=st.integers(1, 4),
)
def test_evaluation_is_of_the_rows_that_are_judged(rows, batch_size):
    asked = torch.tensor(rows)
    answers = torch.arange(asked.numel()).view(asked.shape).float()
    data = asked_numbers(answers.tolist(), torch.zeros(asked.shape).where(asked, math.nan).tolist())
    if not asked.any():
        with pytest.raises(ValueError, match=f"data: got {len(rows)} examples of which nothing"):
            judged(Gives(), data)
        return
    whole, parts = judged(Gives(), data), judged(Gives(), data, batch_size)
    assert sorted(parts[:, 1].tolist()) == sorted(answers[asked].tolist())
    assert torch.equal(whole, parts)
    figures = evaluate(Gives(), data, batch_size)
    assert figures == {**data.objective.metrics(parts), "examples": len(parts)}


def test_rows_of_classes_are_losses_and_whether_it_was_right(reviews, small_model):
    model, data = small_model(), reviews(31)
    rows, logits = judged(model, data, 4), predict(model, data)
    assert rows.shape == (31, 2)
    each = cross_entropy(logits, data.labels, reduction="none")
    torch.testing.assert_close(rows[:, 0].sort().values, each.sort().values)
    assert rows[:, 1].sum() == (logits.argmax(1) == data.labels).sum()


def test_judging_ends_once_it_is_to_stop(reviews, small_model):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        judged(small_model(), reviews(8), stop=stop)
