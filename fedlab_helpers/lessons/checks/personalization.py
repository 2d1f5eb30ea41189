"""Checks of notebook 08: a model for each client."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fedlab_helpers.core import state
from fedlab_helpers.core.state import State
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    tensor,
    wrong,
)
from fedlab_helpers.recipe import Result
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

PAYS, MAY_LOSE = 0.05, 1  # gain of the open exercise, and clients that may lose
TURNED, SPOILT = 0.1, 0.03  # a method of one's own: what it must gain, and may lose


@exercise("say from how many measurements on a client of Δ = 0.2 and σ = 1 is better off alone")
def break_even(answer: float) -> Verdict:
    """Judge the number of measurements at which variance and squared bias are equal."""
    got = number(answer)
    if 25 - 1e-6 < got <= 26:
        return right(
            "1 / 0.2² = 25. Half as different, Δ = 0.1, and it would be 100: the number grows "
            "with the *square* of how alike clients are."
        )
    slips = {
        "set the *squared* errors equal: σ² / n = Δ².": 5,
        "this is Δ² / σ², the other way round: solve σ² / n = Δ² for n.": 0.04,
        "with 24 alone still errs more: 1 / 24 is above 0.2². From where on is it no more?": 24,
        "that is Δ / σ. Set the *squared* errors equal, σ² / n = Δ², and solve for n.": 0.2,
    }
    other = f"got {answer}; alone errs by σ² / n, shared by Δ². When are they equal?"
    return wrong(slip(got, slips) or other)


@exercise("write `pulled`: Ditto's proximal step")
def pulled(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> Verdict:
    """Judge a function of (own, shared, lam, lr) -> own weights after the pull."""
    own, shared = torch.tensor([4.0, -2.0]), torch.tensor([1.0, 0.0])

    def moved(lam: float) -> Tensor:
        return tensor(function(own.clone(), shared.clone(), lam, 0.5), "a tensor like `own`")

    got, expected = moved(3.0), (own + 1.5 * shared) / 2.5
    if got.shape != own.shape:
        return wrong(f"own weights of 2 numbers went in, {tuple(got.shape)} came back.")
    explicit = (
        "this is a step along the gradient of the pull. Try lam = 10: it lands beyond the shared "
        "weights, and farther away each time. Take the minimum instead."
    )
    slips = {
        explicit: own - 1.5 * (own - shared),
        "where is `lr`? The pull is that of one step at this rate: lr · lam.": (own + 3 * shared)
        / 4,
        "where is `lam`? A pull of weight 0 must move nothing.": (own + 0.5 * shared) / 1.5,
        "own and shared have changed places: without a pull, own stays.": (shared + 1.5 * own)
        / 2.5,
        "this is only the change; return the weights.": expected - own,
        "divide by 1 + lr · lam: the result lies between the two.": own + 1.5 * shared,
    }
    if hint := slip(got, slips):
        return wrong(hint)
    if not near(got, expected):
        return wrong(f"with lam 3 and lr 0.5, got {_said(got)}, expected {_said(expected)}.")
    if not near(moved(0.0), own):
        return wrong("without a pull (lam = 0) nothing should move.")
    if not near(far := moved(1e8), shared, rel=1e-3):
        return wrong(f"with a huge pull it should be the shared weights; got {_said(far)}.")
    return right("three fifths of the way at lr · lam = 1.5, there at infinity, and never beyond.")


@exercise("write `ifca`: one round of clustered federation")
def ifca(function: Callable[..., Sequence[Tensor]]) -> Verdict:
    """Judge a function of (models, losses, changes, examples) -> new models."""
    models = torch.tensor([[0.0, 0.0], [10.0, 10.0], [5.0, 5.0]])
    losses = [[0.1, 0.9, 0.5], [0.2, 0.8, 0.4], [0.7, 0.3, 0.6]]
    changes = torch.tensor([[1.0, 0.0], [0.0, 4.0], [-1.0, -1.0]])
    nobody = "nobody took the third model: 0 / 0. It should stay as it was."
    try:
        given = ([*models.clone()], losses, [*changes.clone()], [30, 10, 20])
        got = tensor(function(*given), "a list of three tensors, one a model")
    except ZeroDivisionError as error:
        return wrong(f"your answer raised {type(error).__name__}: {nobody}")
    if got.shape != models.shape:
        return wrong(f"expected a list of three tensors, one a model; got {_said(got)}.")
    if not torch.isfinite(got[2]).all():
        return wrong(nobody)

    mean, slips = _after_a_round(models)
    slips[nobody] = torch.cat([mean[:2], torch.zeros(1, 2)])
    if hint := slip(got, slips):
        return wrong(hint)
    for place in range(3):
        if not near(got[place], mean[place]):
            told = f"got {_said(got[place])}, expected {_said(mean[place])}"
            return wrong(f"model {place}: {told}.")
    return right("two took the first, one the second, nobody the third; nobody was told of groups.")


def _after_a_round(models: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the new models, (3, 2), and where slips lead, by hint."""

    def moved(*steps: Sequence[float]) -> Tensor:
        return models + torch.tensor(steps)

    mean = moved((0.75, 1.0), (-1.0, -1.0), (0.0, 0.0))
    slips = {
        "these are the changes alone; a new model is the old one and its change.": mean - models,
        "this is a sum of changes. Two clients took the first model: take their mean.": moved(
            (1.0, 4.0), (-1.0, -1.0), (0.0, 0.0)
        ),
        "divide by the examples: this is a weighted sum, no mean.": moved(
            (30.0, 40.0), (-20.0, -20.0), (0.0, 0.0)
        ),
        "the two clients of the first model have 30 and 10 examples: weigh them.": moved(
            (0.5, 2.0), (-1.0, -1.0), (0.0, 0.0)
        ),
        "divide by the examples of those who took *this* model, not of all.": moved(
            (0.5, 2 / 3), (-1 / 3, -1 / 3), (0.0, 0.0)
        ),
        "a client takes the model with the *lowest* loss.": moved(
            (-1.0, -1.0), (0.75, 1.0), (0.0, 0.0)
        ),
        "each model moves by the mean of its own takers, not of everybody.": models
        + torch.tensor([10.0, 20.0]) / 60,
    }
    return mean, slips


@exercise("write `gains`: what a personal model gains, in accuracy and balanced accuracy")
def gains(function: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> Verdict:
    """Judge a function of (before, after, labels) -> (gain, gain in balanced accuracy)."""
    labels = torch.tensor([1] * 8 + [0] * 2)
    before = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    always = torch.ones(10, dtype=torch.int64)
    got = tensor(function(before, always, labels), "two numbers")
    if got.shape != (2,):
        return wrong(f"expected two numbers, (gain, balanced gain); got {_said(got)}.")
    got = got / 100 if got.abs().max() > 1 else got  # in points
    gain, balanced = got.tolist()
    shares = {
        "this is the accuracy after; the gain is after minus before.": 0.8,
        "this is before minus after; a gain is the other way round.": -0.2,
    }
    if not near(gain, 0.2):
        told = f"6 of 10 are right before and 8 after, a gain of 0.2; got {gain:.3f}."
        return wrong(slip(gain, shares) or told)
    halves = {
        "balanced: the accuracy on each label by itself, then their mean.": 0.2,
        "the balanced one is the accuracy after; subtract the one before.": 0.5,
        "the mean of the two accuracies, not their sum.": -0.5,
        "of the reviews *with* a label, how many are right? You asked of the answers.": 0.4 - 2 / 3,
    }
    if not near(balanced, -0.25):
        told = f"before, 4 of 8 and 2 of 2: 0.75; then, 8 and 0: 0.5. Got {balanced:.3f}."
        return wrong(slip(balanced, halves) or told)
    return right(
        "+20 points, and 25 lost in balance: it always says 1. That is no model, it is a lean."
    )


@exercise("write `my_method`: a client's own weights, from the shared ones and its own reviews")
def method(function: Callable[..., State]) -> Verdict:
    """Judge a function of (model, start, data, validation, seed) -> weights, by its properties."""
    model, start = _shared()
    before = {name: value.clone() for name, value in start.items()}

    def made(data: EncodedReviews, validation: EncodedReviews, seed: int = 0) -> State:
        got = function(_new_model(), start, data, validation, seed)
        return _require_weights(getattr(got, "weights", got), before)

    def gain(weights: State, exam: EncodedReviews) -> float:
        model.load_state_dict(before)
        shared = evaluate(model, exam).accuracy
        model.load_state_dict(weights)
        return evaluate(model, exam).accuracy - shared

    turned = [_reviews(n, seed, turned=True) for n, seed in ((160, 1), (40, 2), (400, 3))]
    own = made(*turned[:2])
    if any(not torch.equal(start[name], before[name]) for name in before):
        return wrong("it changes `start`, which belongs to everybody: work on a copy.")
    again = made(*turned[:2])
    if any(not torch.equal(own[name], again[name]) for name in own):
        return wrong("called twice with the same seed, it gives two results: where is a seed lost?")
    won = gain(own, turned[2])
    if won < TURNED:
        return wrong(
            f"a client who means the opposite by half of the words gains {100 * won:+.0f} points; "
            f"{100 * TURNED:.0f} are to be had. Does it learn long enough from its 160 reviews?"
        )
    if hint := _peeks(gain(made(_reviews(160, 7), turned[1]), turned[2])):
        return wrong(hint)
    spoilt = _reviews(8, 4).with_targets(1 - _reviews(8, 4).labels)
    lost = -gain(made(spoilt, _reviews(40, 5)), _reviews(400, 6))
    if lost > SPOILT:
        return wrong(
            f"another client has 8 training reviews, all mislabelled, and loses {100 * lost:.0f} "
            "points. Its 40 validation reviews are right: how could they have warned it?"
        )
    return right(
        f"{100 * won:+.0f} points where words mean something else, {-100 * lost:+.1f} where the "
        "client's own reviews mislead it."
    )


def _peeks(gain: float) -> str | None:
    """Return a hint if a client gains what only its validation reviews can teach; None: no."""
    if gain < TURNED:
        return None
    return (
        f"a third client gains {100 * gain:.0f} points that only its validation reviews can teach. "
        "These are there to choose by; learn from `data`."
    )


def _require_weights(got: Any, like: State) -> State:
    """Return the weights. Raises Hint: they are none of this model."""
    fine = hasattr(got, "keys") and {*got} == {*like}
    if not fine or any(got[name].shape != like[name].shape for name in like):
        raise Hint("expected weights of the whole model, by name, as `state.of_model(model)` gives")
    if not all(torch.isfinite(value).all() for value in got.values()):
        raise Hint("some of the weights are not finite numbers: is a rate too high?")
    return {name: value.detach().clone() for name, value in got.items()}


def _new_model() -> SentimentLSTM:
    return SentimentLSTM(22, 8, 8, pooling="mean", seed=0)


def _shared() -> tuple[SentimentLSTM, State]:
    """Return a small model and weights that know what most clients mean."""
    model = _new_model()
    train(model, _reviews(400, 0), LocalConfig(8, 16, 0.02), seed=0)
    return model, state.of_model(model)


def _reviews(n: int, seed: int, turned: bool = False) -> EncodedReviews:
    """Return reviews of six words, each of which is good or bad; half of the words, and all words
    of a review are of one half, mean the opposite to who is `turned`."""
    rng = torch.Generator().manual_seed(seed)
    labels, half = (torch.randint(2, (n,), generator=rng) for _ in range(2))
    said = torch.where(torch.rand(n, 6, generator=rng) < 0.8, labels[:, None], 1 - labels[:, None])
    tokens = 2 + torch.randint(5, (n, 6), generator=rng) + 5 * said + 10 * half[:, None]
    return EncodedReviews(tokens, torch.full((n,), 6), labels ^ half if turned else labels)


def _said(values: Tensor) -> str:
    return str(values.double().round(decimals=3).tolist())


@exercise(
    f"find a run by two desks that gains {100 * PAYS:.0f} points while at most {MAY_LOSE} client "
    "loses"
)
def pays(result: Result) -> Verdict:
    """Judge the last result of a run."""
    if isinstance(result, Sequence) and result and isinstance(result[-1], Result):
        return wrong("these are the results of all rounds; take the last: `recipe.run(task)[-1]`.")
    if not isinstance(result, Result) or not result.groups:
        return wrong("expected the last result of a personal method: `recipe.run(task)[-1]`.")
    groups = sorted({*result.groups})
    if groups != ["price desk", "service desk"]:
        return wrong(f'partition stays "two_desks"; these clients are {groups}.')
    if not result.settled:
        return wrong("this is not how the run ended; take the last result.")
    steps = [own - shared for own, shared in zip(result.own, result.shared, strict=True)]
    gain, below = sum(steps) / len(steps), sum(step < 0 for step in steps)
    told = f"{100 * gain:+.1f} points, {below} of {len(steps)} clients lose"
    if gain < PAYS or below > MAY_LOSE:
        return wrong(
            f"{told}. Which part of the model has to differ between the desks, and which part "
            "should all clients learn together?"
        )
    return right(f"{told}, on validation reviews.")
