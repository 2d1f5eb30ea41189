"""Checks of notebook 11: what an update gives away."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    tensor,
    told_apart,
    wrong,
)
from fedlab_helpers.privacy import leaks
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

_WORDS, _WIDTH = 30, 12


def _model(seed: int = 0, cell: str = "lstm", classes: int = 2, gain: float = 1.5) -> SentimentLSTM:
    """Return a small model whose gradient reaches far back, the farther the larger the gain."""
    model = SentimentLSTM(_WORDS, _WIDTH, _WIDTH, classes, cell=cell, seed=seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "recurrent.weight" in name:
                weight.mul_(gain)
    return model


def _reviews(count: int, length: int, seed: int, repeats: bool = True) -> EncodedReviews:
    rng = torch_rng(seed, "reviews")
    if repeats:
        tokens = torch.randint(2, _WORDS, (count, length), generator=rng)
    else:
        tokens = torch.stack(
            [torch.randperm(_WORDS - 2, generator=rng)[:length] + 2 for _ in range(count)]
        )
    labels = torch.randint(2, (count,), generator=rng)
    return EncodedReviews(tokens, torch.full((count,), length), labels)


@exercise("write `words_of_the_other`: the ids that only the other client's change moved")
def words_of_the_other(function: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Judge a function of (sum of two changes, one of them), each (V, E), -> ids of the other."""
    rng = torch_rng(0, "changes")
    mine, other = torch.zeros(12, 4), torch.zeros(12, 4)
    mine[[5, 7]] = torch.randn(2, 4, generator=rng)
    other[[2, 4, 5, 9]] = torch.randn(4, 4, generator=rng)
    mine[2] = other[11] = torch.tensor([1.0, -1.0, 0.0, 0.0])  # whose numbers add up to zero
    got = tensor(function(mine + other, mine), "ids").flatten().tolist()
    if got == [4, 9, 11]:
        return right("a sum of two is no protection from one of the two.")
    hints = {
        (2, 4, 5, 9, 11): "words 2 and 5 are in both; which does *only* the other have?",
        (2, 4, 5, 7, 9, 11): "these are the words of both.",
        (4, 9): "one row's numbers add up to zero, and yet it moved: look at each number.",
        (2, 4, 9, 11): "one of your rows adds up to zero, and yet it moved: look at each number.",
    }
    return wrong(f"got {got}. {hints.get(tuple(sorted(map(int, got))), 'Which rows moved?')}")


@exercise("write `class_and_state`: the class and the last state, from the head's two gradients")
def class_and_state(function: Callable[[Tensor, Tensor], tuple[int, Tensor]]) -> Verdict:
    """Judge a function of (weight (C, H), bias (C,)) -> (class, state (H,))."""
    state = torch.tensor([0.5, -0.25, 0.125, 0.9])
    for bias, name in (
        ([0.2, -0.7, 0.5], "three classes"),
        ([0.0, 0.6, -0.6], "a class whose probability is 0"),
        ([-0.6, 0.6, 0.0], "the first class"),
    ):
        bias = torch.tensor(bias)
        got = function(torch.outer(bias, state), bias)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Hint("return two things: the class and the state.")
        told, found = int(number(got[0])), tensor(got[1])
        if told != int(bias.argmin()):
            return wrong(f"{name}: class {told}; p − y is negative for one class only.")
        if not bool(found.isfinite().all()):
            return wrong(f"{name}: the state is not finite. Did you divide by a zero?")
        if found.shape != state.shape or not near(found, state, 1e-4):
            return wrong(f"{name}: the state is {found.tolist()}, was {state.tolist()}.")
    noisy = torch.tensor([1e-6, -0.5, 0.5])
    weight = torch.outer(noisy, state) + 0.05
    got = tensor(function(weight, noisy)[1])
    if not near(got, state, 0.05):
        return wrong("all classes are off by 0.05, and you take one at its word: use all of them.")
    return right("least squares weighs each class by what it knows.")


@exercise("write `read_rnn`: the words of a sentence, in order, from a plain RNN's gradient")
def read_rnn(function: Callable[[nn.Module, State], Sequence[int]]) -> Verdict:
    """Judge a function of (model, gradient) -> word ids, on sentences without repeats."""
    for length, seed in ((1, 0), (4, 1), (6, 2), (6, 3)):
        model = _model(seed, "rnn", gain=3.0)  # no clock is right here
        data = _reviews(1, length, seed, repeats=False)
        before = of_model(model)
        found = function(model, leaks.gradient_of(model, data))
        got = [int(each) for each in tensor(found, "word ids").flatten()]
        expected = data.tokens[0].tolist()
        if any(not torch.equal(before[name], t) for name, t in of_model(model).items()):
            return wrong("the model's own weights were changed: work on a copy.")
        if sorted(got) != sorted(expected):
            return wrong(
                f"{length} words: got {got}, and other words were read: {sorted(expected)}."
            )
        if got != expected:
            return wrong(f"the words are right, the order is not: {got}, was {expected}.")
    return right("no gate is needed: the two sums are those of every recurrent layer.")


@exercise("write `undo_adam`: the gradient behind Adam's first step")
def undo_adam(function: Callable[[Tensor, float], Tensor]) -> Verdict:
    """Judge a function of (change, learning rate) -> gradient, where it can be known."""
    gradient = torch.tensor([1e-9, -1e-9, 3e-8, -2e-7, 1e-10, 0.0], dtype=torch.float64)
    for lr in (5e-3, 0.1):
        change = -lr * gradient / (gradient.abs() + 1e-8)
        got = tensor(function(change, lr))
        if got.shape != gradient.shape:
            return wrong(f"expected one gradient for each change, got {tuple(got.shape)}.")
        if torch.allclose(got, gradient, rtol=1e-4, atol=1e-14):
            continue
        if torch.allclose(got, -gradient, rtol=1e-4, atol=1e-14):
            return wrong("the signs are the wrong way round: Adam goes *down* the gradient.")
        if torch.allclose(got, -change / lr, rtol=1e-4, atol=1e-14):
            return wrong("that undoes plain SGD; Adam also divided by |g| + ε.")
        return wrong(f"lr {lr}: got {got.tolist()}, expected {gradient.tolist()}.")
    return right(
        "the step is lr times a share of |g| in |g| + ε. For a large g the share is 1 to the last "
        "digit of a float32, and nothing can be undone."
    )


@exercise("write `named_members`: the share of members named, at few strangers accused")
def named_members(function: Callable[[np.ndarray, np.ndarray, float], float]) -> Verdict:
    """Judge a function of (scores of members, of strangers, share) -> share of members."""
    rng = np.random.default_rng(0)
    members, strangers = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    ties = np.r_[np.ones(30), np.zeros(70)]
    cases = [
        (members, strangers, 0.01, "plain scores"),
        (members, strangers, 0.0, "nobody may be accused"),
        (np.ones(50), ties, 0.1, "30 of 100 strangers score as high as all members"),
        (np.r_[np.ones(20), np.full(30, 0.5)], ties, 0.3, "exactly as many as allowed"),
        (members, strangers, 1.0, "everybody may be accused"),
    ]
    for inside, outside, share, name in cases:
        got, true = number(function(inside, outside, share)), _named(inside, outside, share)
        if not near(got, true):
            return wrong(f"{name}: got {got:.3f}, expected {true:.3f}.")
    return right("at few false accusations, an attack with a high AUC may still name nobody.")


def _named(members: np.ndarray, strangers: np.ndarray, share: float) -> float:
    levels = np.concatenate([members, strangers])
    allowed = [level for level in levels if (strangers >= level).mean() <= share]
    return float((members >= min(allowed)).mean()) if allowed else 0.0


@exercise("write `may_train`: whether a received model would learn from a client's review")
def may_train(function: Callable[[nn.Module, Tensor, Tensor, Tensor], bool]) -> Verdict:
    """Judge a function of (model, tokens, lengths, labels) -> whether the client may train."""
    data = _reviews(1, 8, 5)
    cases = {f"a model of round {number}": (_trained(number), True) for number in (0, 2, 6)}
    cases |= {f"an untrained {cell}": (_model(1, cell), True) for cell in CELLS}
    cases |= {name: (model, False) for name, model in _silent().items()}

    def look(model: nn.Module) -> bool:
        before = of_model(model)
        got = function(model, *data.inputs, data.targets)
        if any(not torch.equal(before[name], t) for name, t in of_model(model).items()):
            raise Hint("the model was changed by looking at it: a client still has to train it.")
        return got

    passed = "A client that trains it sends zeros, or next to nothing, of its recurrent layer."
    refused = "It learns as it should."
    return told_apart(look, cases, passed, refused) or right(
        "zeros are seen. A server may as well send a model that sends what *it* has chosen: "
        "no look at one model says whether others got the same."
    )


def _trained(epochs: int) -> SentimentLSTM:
    model = _model(3)
    for epoch in range(epochs):
        train(model, _reviews(40, 6, 9), LocalConfig(lr=0.02), seed=epoch)
    return model


def _silent() -> dict[str, SentimentLSTM]:
    size, models = _WIDTH, {}

    def changed(name: str, parameter: str, rows: slice, value: float) -> None:
        models[name] = _model(4)
        with torch.no_grad():
            models[name].get_parameter(parameter)[rows] = value

    changed("output gates shut", "recurrent.bias_ih_l0", slice(3 * size, None), -1e4)
    changed(
        "output gates shut by the other bias", "recurrent.bias_hh_l0", slice(3 * size, None), -1e4
    )
    changed("output gates nearly shut", "recurrent.bias_ih_l0", slice(3 * size, None), -30.0)
    changed("input gates shut", "recurrent.bias_ih_l0", slice(0, size), -1e4)
    models["the cheating server's"] = _model(4)
    models["the cheating server's"].load_state_dict(leaks.shut(_model(4)))
    return models
