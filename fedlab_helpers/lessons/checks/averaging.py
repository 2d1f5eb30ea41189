"""Checks of notebook 04: federated averaging."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from fedlab_helpers.core import state
from fedlab_helpers.core.history import History
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, slip, wrong

BUDGET_BYTES, TARGET_ACCURACY = 80_000_000, 0.70


@exercise("compute the accuracy that the server finds from what the three clients report")
def pooled_accuracy(answer: float) -> Verdict:
    """Judge the accuracy behind the reports 270 of 300, 20 of 40 and 3 of 10."""
    if near(answer, 293 / 350, 6e-4):
        return right("293 of 350. Sums lose nothing: this is the accuracy of the pooled reviews.")
    slips = {
        "the right idea, as a percentage; give it as a share between 0 and 1.": 29300 / 350,
        "this is the mean of the three accuracies: a client with 10 reviews counts in it as much "
        "as one with 300. What does the server add up?": (0.9 + 0.5 + 0.3) / 3,
    }
    general = f"got {answer}; add up what was right, and what was asked, before you divide."
    return wrong(slip(answer, slips, 1e-3) or general)


@exercise("write `rowwise_mean`: each row divided by the weight of the clients that touched it")
def rowwise_mean(function: Callable[..., Tensor]) -> Verdict:
    """Judge a function of (changes, rows, weights, n_rows) that returns (n_rows, E)."""
    rows = [torch.tensor([0, 1]), torch.tensor([1, 3])]
    changes = [torch.tensor([[2.0, 4.0], [3.0, 6.0]]), torch.tensor([[7.0, 2.0], [5.0, 1.0]])]
    got = function([c.clone() for c in changes], [r.clone() for r in rows], [10.0, 30.0], 5)
    expected = torch.tensor([[2.0, 4.0], [6.0, 3.0], [0.0, 0.0], [5.0, 1.0], [0.0, 0.0]])
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return wrong(f"expected a tensor of shape (5, 2), got {getattr(got, 'shape', got)!r}.")
    if got.isnan().any() or got.isinf().any():
        return wrong("a row that nobody touched came out as NaN or infinite: 0 divided by 0?")
    if torch.allclose(got, expected, atol=1e-5):
        return right("a word that one client knows moves as far as that client moved it.")
    diluted = expected * torch.tensor([[0.25], [1.0], [1.0], [0.75], [1.0]])
    if near(got, diluted):
        return wrong("row 0 is divided by everybody's weight: plain FedAvg. Who touched row 0?")
    if torch.allclose(got[1], torch.tensor([5.0, 4.0]), atol=1e-5):
        return wrong("row 1 was touched by both clients, and they do not weigh the same.")
    unlike = int((got - expected).abs().sum(1).argmax())
    return wrong(f"row {unlike} is {got[unlike].tolist()}, expected {expected[unlike].tolist()}.")


@exercise("write `rows_in`: the ids of the words that a dense change gives away")
def rows_in(function: Callable[[Tensor], Iterable[int]]) -> Verdict:
    """Judge a function that returns the rows of a (V, E) change that are not all zeros."""
    change = torch.zeros(6, 3)
    change[[1, 2, 4]] = torch.tensor([[0.5, -0.5, 0.0], [0.0, 0.0, -1e-7], [0.1, 0.2, 0.3]])
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
        return wrong(f"expected the History that `run` returns, got {type(history)}.")
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


@exercise("mend the round: it still ends with the weights of the last client of a chain")
def mended_round(function: Callable[[nn.Module, list[Tensor], Callable], None]) -> Verdict:
    """Judge a function of (model, clients, train) that leaves one round of FedAvg in the model."""
    model = _line()
    function(model, _tables(), _descend)
    got = state.of_model(model)
    if got.keys() != _line().state_dict().keys() or not state.all_finite(got):
        return wrong("the model ends with a weight that is not finite, or without its weights.")
    outcomes = {
        "stub": _played(reset=False, copied=False),
        "start": state.of_model(_line()),
        "fedavg": _played(),
        "chained": _played(reset=False),
        "chained, plain": _played(reset=False, weighted=False),
        "plain": _played(weighted=False),
        "last": _played(clients=_tables()[-1:]),
    }
    distances = {k: state.norm(state.subtract(got, end)) for k, end in outcomes.items()}
    nearest = min(distances, key=distances.get)
    if distances[nearest] > 1e-6:
        away = distances["fedavg"]
        return wrong(f"the model ends {away:.2g} away from FedAvg's weighted mean of the clients.")
    if nearest == "stub":
        raise NotImplementedError
    if nearest == "fedavg":
        return right("a copy to keep, a copy to start from, and a weight for each review.")
    return wrong(_SLIPS[nearest.removesuffix(", plain")])


_SLIPS = {
    "start": "the model ends where it began: load the mean into it at the end.",
    "chained": "each client goes on where the one before it stopped. If you do load the start "
    "back: is what you load a copy, or did it train along?",
    "plain": "the states are right, and their mean is plain: the client with 2 rows counts as "
    "much as the one with 6.",
    "last": "the model ends with the weights of the last client alone: does your list hold "
    "several states, or one several times? And did you load the mean?",
}


def _line() -> nn.Linear:
    """Return the model of the exercise: two weights, always the same."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.25]]))
    return model


def _tables() -> list[Tensor]:
    """Return three clients' data, (n, 3) each: two inputs and a target a row."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, generator=rng) for n in (2, 3, 6)]


def _descend(model: nn.Module, data: Tensor) -> None:
    """Take three plain gradient steps on the squared error, in place."""
    for _ in range(3):
        loss = (model(data[:, :2]).flatten() - data[:, 2]).square().mean()
        (gradient,) = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            model.weight -= 0.2 * gradient


def _played(
    reset: bool = True,
    weighted: bool = True,
    copied: bool = True,
    clients: list[Tensor] | None = None,
) -> state.State:
    """Return the mean after a round, with or without what makes it federated averaging."""
    clients = clients or _tables()
    model, ends = _line(), []
    for data in clients:
        model = _line() if reset else model
        _descend(model, data)
        ends.append(state.of_model(model) if copied else model.state_dict())
    return state.weighted_mean(ends, [len(data) if weighted else 1 for data in clients])
