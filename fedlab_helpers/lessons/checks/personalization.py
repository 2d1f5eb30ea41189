"""Checks of notebook 08: a model for each client."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, right, wrong
from fedlab_helpers.recipe import Result

PAYS, MAY_LOSE = 0.05, 1  # gain of the open exercise, and clients that may lose


@exercise("say from how many measurements on a client of Δ = 0.2 and σ = 1 is better off alone")
def break_even(answer: float) -> Verdict:
    """Judge the number of measurements at which variance and squared bias are equal."""
    if math.isclose(answer, 25, abs_tol=1):
        return right(
            "1 / 0.2² = 25. Half as different, Δ = 0.1, and it would be 100: the number grows "
            "with the *square* of how alike clients are."
        )
    if math.isclose(answer, 5):
        return wrong("set the *squared* errors equal: σ² / n = Δ².")
    return wrong(f"got {answer}; alone errs by σ² / n, shared by Δ². When are they equal?")


@exercise("write `pulled`: Ditto's proximal step")
def pulled(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> Verdict:
    """Judge a function of (own, shared, lam, lr) -> own weights after the pull."""
    own, shared = torch.tensor([4.0, -2.0]), torch.tensor([1.0, 0.0])
    got = function(own.clone(), shared.clone(), 2.0, 0.5)
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    explicit = own - 0.5 * 2.0 * (own - shared)
    if torch.allclose(got, explicit):
        return wrong(
            "this is a step along the gradient of the pull. Try lam = 10: it lands beyond the "
            "shared weights, and farther away each time. Take the minimum instead."
        )
    expected = torch.tensor([2.5, -1.0])
    if not torch.allclose(got, expected, atol=1e-5):
        return wrong(f"with lam 2 and lr 0.5, got {got.tolist()}, expected {expected.tolist()}.")
    if not torch.allclose(function(own.clone(), shared.clone(), 0.0, 0.5), own):
        return wrong("without a pull (lam = 0) nothing should move.")
    far = function(own.clone(), shared.clone(), 1e8, 0.5)
    if not torch.allclose(far, shared, atol=1e-3):
        return wrong(f"with a huge pull it should be the shared weights; got {far.tolist()}.")
    return right("halfway at lr · lam = 1, there at infinity, and never beyond.")


@exercise("write `ifca`: one round of clustered federation")
def ifca(function: Callable[..., list[Tensor]]) -> Verdict:
    """Judge a function of (models, losses, changes, examples) -> new models."""
    models = [torch.tensor([0.0, 0.0]), torch.tensor([10.0, 10.0]), torch.tensor([5.0, 5.0])]
    losses = [[0.1, 0.9, 0.5], [0.2, 0.8, 0.4], [0.7, 0.3, 0.6]]
    changes = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 4.0]), torch.tensor([-1.0, -1.0])]
    got = function([m.clone() for m in models], losses, [c.clone() for c in changes], [30, 10, 20])
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    expected = [torch.tensor([0.75, 1.0]), torch.tensor([9.0, 9.0]), torch.tensor([5.0, 5.0])]
    if len(got) != 3 or not all(isinstance(model, Tensor) for model in got):
        return wrong(f"expected a list of three tensors, one a model; got {got!r}.")
    if torch.allclose(got[0], torch.tensor([0.5, 2.0])):
        return wrong("the two clients of the first model have 30 and 10 examples: weigh them.")
    if torch.allclose(got[1], torch.tensor([10 - 1 / 3, 10 - 1 / 3]), atol=1e-4):
        return wrong("divide by the examples of those who took *this* model, not of all.")
    if not torch.isfinite(got[2]).all():
        return wrong("nobody took the third model: 0 / 0. It should stay as it was.")
    for place, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        if not torch.allclose(mine, theirs, atol=1e-4):
            return wrong(f"model {place}: got {mine.tolist()}, expected {theirs.tolist()}.")
    return right("two took the first, one the second, nobody the third; nobody was told of groups.")


@exercise("write `gains`: what a personal model gains, in accuracy and balanced accuracy")
def gains(function: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> Verdict:
    """Judge a function of (before, after, labels) -> (gain, gain in balanced accuracy)."""
    labels = torch.tensor([1] * 8 + [0] * 2)
    before = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    always = torch.ones(10, dtype=torch.int64)
    got = function(before, always, labels)
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    gain, balanced = (float(value) for value in got)
    if not math.isclose(gain, 0.2, abs_tol=1e-6):
        return wrong(f"6 of 10 are right before and 8 after, a gain of 0.2; got {gain:.3f}.")
    if math.isclose(balanced, 0.2, abs_tol=1e-6):
        return wrong("balanced: the accuracy on each label by itself, then their mean.")
    if not math.isclose(balanced, -0.25, abs_tol=1e-6):
        return wrong(f"before, 4 of 8 and 2 of 2: 0.75; then, 8 and 0: 0.5. Got {balanced:.3f}.")
    return right(
        "+20 points, and 25 lost in balance: it always says 1. That is no model, it is a lean."
    )


@exercise(
    f"find a run by two desks that gains {100 * PAYS:.0f} points while at most {MAY_LOSE} client "
    "loses"
)
def pays(result: Result) -> Verdict:
    """Judge the last result of a run."""
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
