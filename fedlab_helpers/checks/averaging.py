"""Checks of notebook 04: federated averaging."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fedlab_helpers.checks.verdict import Verdict, exercise, right, wrong
from fedlab_helpers.history import History

BUDGET_BYTES, TARGET_ACCURACY = 80_000_000, 0.70


@exercise("compute the accuracy that the server finds from what the three clients report")
def pooled_accuracy(answer: float) -> Verdict:
    """Judge the accuracy behind the reports 270 of 300, 20 of 40 and 3 of 10."""
    correct, asked = (270, 20, 3), (300, 40, 10)
    shares = [c / n for c, n in zip(correct, asked, strict=True)]
    if math.isclose(answer, sum(correct) / sum(asked), abs_tol=5e-4):
        return right("293 of 350. Sums lose nothing: this is the accuracy of the pooled reviews.")
    if math.isclose(answer, 100 * sum(correct) / sum(asked), abs_tol=0.05):
        return wrong("the right idea, as a percentage; give it as a share between 0 and 1.")
    if math.isclose(answer, sum(shares) / len(shares), abs_tol=5e-4):
        return wrong(
            "this is the mean of the three accuracies: a client with 10 reviews counts in it as "
            "much as one with 300. What does the server add up?"
        )
    return wrong(f"got {answer}; add up what was right, and what was asked, before you divide.")


@exercise("write `rowwise_mean`: each row divided by the weight of the clients that touched it")
def rowwise_mean(
    function: Callable[[list[Tensor], list[Tensor], list[float], int], Tensor],
) -> Verdict:
    """Judge a function of (changes, rows, weights, n_rows) that returns (n_rows, E)."""
    rows = [torch.tensor([0, 1]), torch.tensor([1, 3])]
    changes = [torch.tensor([[2.0, 4.0], [3.0, 6.0]]), torch.tensor([[7.0, 2.0], [5.0, 1.0]])]
    weights = [10.0, 30.0]
    got = function([c.clone() for c in changes], [r.clone() for r in rows], list(weights), 5)
    expected = torch.tensor([[2.0, 4.0], [6.0, 3.0], [0.0, 0.0], [5.0, 1.0], [0.0, 0.0]])
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return wrong(f"expected a tensor of shape (5, 2), got {getattr(got, 'shape', got)!r}.")
    if got.isnan().any() or got.isinf().any():
        return wrong("a row that nobody touched came out as NaN or infinite: 0 divided by 0?")
    if torch.allclose(got, expected, atol=1e-5):
        return right("a word that one client knows moves as far as that client moved it.")
    diluted = expected * torch.tensor([[0.25], [1.0], [1.0], [0.75], [1.0]])
    if torch.allclose(got, diluted, atol=1e-5):
        return wrong(
            "row 0 is divided by everybody's weight: that is plain FedAvg. Who touched row 0?"
        )
    if torch.allclose(got[1], torch.tensor([5.0, 4.0]), atol=1e-5):
        return wrong("row 1 was touched by both clients, and they do not weigh the same.")
    unlike = int((got - expected).abs().sum(1).argmax())
    return wrong(f"row {unlike} is {got[unlike].tolist()}, expected {expected[unlike].tolist()}.")


@exercise("write `rows_in`: the ids of the words that a dense change gives away")
def rows_in(function: Callable[[Tensor], Iterable[int]]) -> Verdict:
    """Judge a function that returns the rows of a (V, E) change that are not all zeros."""
    change = torch.zeros(6, 3)
    change[1] = torch.tensor([0.5, -0.5, 0.0])
    change[2] = torch.tensor([0.0, 0.0, -1e-7])
    change[4] = torch.tensor([0.1, 0.2, 0.3])
    answer = function(change)
    got = answer.tolist() if isinstance(answer, Tensor) else list(answer)
    if len(got) == len(change) and set(got) <= {0, 1} and got != [1]:
        return wrong("this marks each row with yes or no; return the ids of the marked rows.")
    got = sorted(int(row) for row in got)
    if got == [1, 2, 4]:
        return right("no list of words was sent, and the server reads the words all the same.")
    if 1 not in got:
        return wrong("a row like (0.5, -0.5, 0) changed too, although its values sum to 0.")
    if 2 not in got:
        return wrong("one tiny or negative value is a change too: only exact zeros say 'unused'.")
    if 0 in got:
        return wrong("row 0 did not change at all; look for rows where ANY value differs from 0.")
    return wrong(f"got the rows {got} of a change whose rows 1, 2 and 4 are not all zeros.")


@exercise(
    f"find a plan that reaches {TARGET_ACCURACY:.0%} on the validation reviews with at most "
    f"{BUDGET_BYTES / 1e6:.0f} megabytes, both ways"
)
def byte_budget(history: History) -> Verdict:
    """Judge a run by its total bytes and the accuracy after its last round."""
    if not isinstance(history, History) or not len(history):
        return wrong(f"expected the History that federated.run returns, got {type(history)}.")
    spent = sum(record.bytes_down + record.bytes_up for record in history)
    if "accuracy" not in history[-1].metrics:
        return wrong("the last round was not evaluated: pass test=task.validation.")
    accuracy, megabytes = history[-1].metrics["accuracy"], spent / 1e6
    told = f"{accuracy:.1%} for {megabytes:.1f} MB"
    if spent > BUDGET_BYTES:
        return wrong(
            f"{told}: over the budget. What multiplies the bytes: the rounds, the cohort, the "
            "epochs, the batch size?"
        )
    if accuracy < TARGET_ACCURACY:
        return wrong(f"{told}: within the budget. How can the clients do more between two sends?")
    return right(f"{told}. Computing between sends is what FedAvg trades against bytes.")
