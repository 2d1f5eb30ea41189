"""Checks of the clinic, notebook A: a loop that reads well."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fedlab_helpers.core import state
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, right, told_apart, whole, wrong

Round = Callable[[nn.Module, list[Tensor], Callable], None]  # of model, clients, train

_FRAGMENTS = {
    "a": (7, "what does `best` hold once the training has gone on?"),
    "b": (4, "does every hospital write the same number for the same diagnosis?"),
    "c": (3, "what stands at the last position of a short series?"),
    "d": (9, "how much does a patient of the small hospital count?"),
}


@exercise("name the slip of each fragment: a letter -> its number")
def which_slip(answer: Mapping[str, int]) -> Verdict:
    """Judge which of the twelve slips each of four fragments has."""
    if not isinstance(answer, Mapping) or set(answer) != set(_FRAGMENTS):
        return wrong("give a dict with the letters a, b, c and d, and a number for each.")
    if any(value is ... or value is None for value in answer.values()):
        raise NotImplementedError
    if any(isinstance(value, str) for value in answer.values()):
        return wrong("give numbers, not texts.")
    for letter, (number, hint) in _FRAGMENTS.items():
        if whole(answer[letter]) != number:
            return wrong(f"{letter}: {answer[letter]!r}? {hint}")
    return right("none of them crashes, and each would have given you an accuracy.")


@exercise("mend the round: it still ends with the weights of the last client of a chain")
def mended_round(function: Round) -> Verdict:
    """Judge a function of (model, clients, train) that leaves one round of FedAvg in the model."""

    def end(one_round: Round, clients: int = 3) -> state.State:
        model = nn.Linear(2, 1, bias=False)
        nn.init.constant_(model.weight, 0.5)
        one_round(model, _tables()[-clients:], _descend)
        return state.of_model(model)

    got = end(function)
    if not state.all_finite(got):
        return wrong("the model ends with a weight that is not finite.")
    outcomes = {
        "stub": end(_round(reset=False, copied=False)),
        "start": end(lambda *_: None),
        "fedavg": end(_round()),
        "chained": end(_round(reset=False)),
        "chained, plain": end(_round(reset=False, weighted=False)),
        "plain": end(_round(weighted=False)),
        "last": end(_round(), clients=1),
    }
    distances = {k: state.norm(state.subtract(got, each)) for k, each in outcomes.items()}
    nearest = min(distances, key=distances.get)
    if distances[nearest] > 1e-5:
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


@exercise("write `sound`: True for a round of FedAvg, False for a round with a slip")
def sound(function: Callable[[Round], bool]) -> Verdict:
    """Judge a probe that is given rounds, functions of (model, clients, train), to tell apart."""
    rounds = {
        "a right round": (_round(), True),
        "a round in which nobody goes back to the global weights": (_round(reset=False), False),
        "a round that keeps live states": (_round(copied=False), False),
        "a round with a plain mean": (_round(weighted=False), False),
        "a round that loads no mean": (_round(load=False), False),
        "a right round that averages in 64 bits": (_round(double=True), True),
        "a round with all slips": (_round(False, False, False), False),
    }
    passed = (
        "Has your probe several clients, of unequal size and with unlike data? Or do two rounds "
        "end at the same number by chance?"
    )
    refused = "Does your probe allow for a rounding, and does each round get a fresh model?"
    if fault := told_apart(function, rounds, passed, refused):
        return fault
    return right("a probe of a few lines, and none of slips 6, 7 and 9 gets past it.")


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


def _round(
    reset: bool = True,
    copied: bool = True,
    weighted: bool = True,
    load: bool = True,
    double: bool = False,
) -> Round:
    """Return a round of FedAvg, or one without what makes it federated averaging."""

    def one_round(model: nn.Module, clients: list[Tensor], train: Callable) -> None:
        start, ends = state.of_model(model), []
        for data in clients:
            if reset:
                model.load_state_dict(start)
            train(model, data)
            ends.append(state.of_model(model) if copied else model.state_dict())
        weights = [len(data) if weighted else 1 for data in clients]
        if double:
            shares = [weight / sum(weights) for weight in weights]
            pairs = [(share, end) for share, end in zip(shares, ends, strict=True)]
            mean = {n: sum(share * end[n].double() for share, end in pairs) for n in start}
        else:
            mean = state.weighted_mean(ends, weights)
        if load:
            model.load_state_dict(mean)

    return one_round
