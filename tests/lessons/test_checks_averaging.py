"""Each check of notebook 04 passes the right answer and has a hint for typical wrong ones."""

import pytest
import torch
from verdicts import refused

from fedlab_helpers.core import state
from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons.checks import averaging as checks


def test_pooled_accuracy():
    assert checks.pooled_accuracy(293 / 350).passed
    assert checks.pooled_accuracy(0.837).passed
    refused(checks.pooled_accuracy((0.9 + 0.5 + 0.3) / 3), "mean of the three")
    refused(checks.pooled_accuracy(83.7), "percentage")
    refused(checks.pooled_accuracy(0.5), "0.5", "add up")


def rowwise(weigh=float, least=1e-12, diluted=False):
    """Return a mean of rows in which one thing may be wrong."""

    def mean(changes, rows, weights, n_rows):
        total, weight = torch.zeros(n_rows, 2), torch.zeros(n_rows, 1)
        for change, touched, w in zip(changes, rows, map(weigh, weights), strict=True):
            total[touched] += w * change
            weight[touched] += w
        return total / (sum(weights) if diluted else weight.clamp(min=least))

    return mean


def last_one_wins(changes, rows, weights, n_rows):
    total = torch.zeros(n_rows, changes[0].shape[1])
    for change, touched in zip(changes, rows, strict=True):
        total[touched] = change
    return total


def test_rowwise_mean():
    assert checks.rowwise_mean(rowwise()).passed
    refused(checks.rowwise_mean(rowwise(diluted=True)), "plain FedAvg")
    refused(checks.rowwise_mean(rowwise(weigh=lambda w: 1.0)), "do not weigh the same")
    refused(checks.rowwise_mean(rowwise(least=0)), "NaN")
    refused(checks.rowwise_mean(last_one_wins), "row 1 is")
    refused(checks.rowwise_mean(lambda c, r, w, n: c[0]), "(5, 2)")


def test_rows_in():
    assert checks.rows_in(lambda change: change.any(1).nonzero().flatten()).passed
    assert checks.rows_in(lambda change: change.any(1).nonzero().flatten().tolist()).passed
    refused(checks.rows_in(lambda change: change.any(1)), "ids of the marked rows")
    refused(checks.rows_in(lambda change: change.sum(1).nonzero().flatten()), "sum to 0")
    refused(checks.rows_in(lambda change: (change > 0).any(1).nonzero().flatten()), "tiny")
    refused(checks.rows_in(lambda change: (change == 0).any(1).nonzero().flatten()), "row")
    refused(checks.rows_in(lambda change: range(len(change))), "row 0")
    refused(checks.rows_in(lambda change: [1, 2, 4, 4]), "[1, 2, 4, 4]")


def run_of(accuracy: float | None, rounds: int, bytes_a_round: int) -> History:
    metrics = {} if accuracy is None else {"accuracy": accuracy}
    records = [
        RoundRecord(number, (0,), 1, 1, {0: 0.5}, {}, bytes_a_round, 0, 0.1, metrics)
        for number in range(1, rounds + 1)
    ]
    return History(tuple(records))


def test_byte_budget():
    enough = checks.BUDGET_BYTES // 6
    assert checks.byte_budget(run_of(checks.TARGET_ACCURACY, 6, enough)).passed
    refused(checks.byte_budget(run_of(0.99, 7, enough)), "over the budget")
    refused(checks.byte_budget(run_of(0.6, 2, enough)), "do more")
    refused(checks.byte_budget(run_of(None, 2, enough)), "validation")
    refused(checks.byte_budget(0.8), "History")
    refused(checks.byte_budget(History(())), "History")


def a_round(keep=state.of_model, start=state.of_model, weighted=True, load=True):
    """Return a round in which the named lines may be wrong."""

    def one_round(model, clients, train):
        first, states = start(model), []
        for data in clients:
            if first is not None:
                model.load_state_dict(first)
            train(model, data)
            states.append(keep(model))
        weights = [len(data) if weighted else 1 for data in clients]
        if load:
            model.load_state_dict(state.weighted_mean(states, weights))

    return one_round


def live(model):
    return model.state_dict()


def nothing(model):
    return None


def test_mended_round():
    assert checks.mended_round(a_round()).passed
    chain = "where the one before it stopped"
    refused(checks.mended_round(a_round(start=nothing)), chain)
    refused(checks.mended_round(a_round(start=live)), chain, "copy")
    refused(checks.mended_round(a_round(start=nothing, weighted=False)), chain)
    refused(checks.mended_round(a_round(weighted=False)), "mean is plain")
    refused(checks.mended_round(a_round(keep=live)), "last client alone")
    refused(checks.mended_round(a_round(load=False)), "last client alone")
    refused(checks.mended_round(lambda *_: None), "where it began")
    refused(checks.mended_round(lambda m, c, t: t(m, c[0])), "away from FedAvg")
    refused(checks.mended_round(lambda m, c, t: m.weight.data.fill_(float("nan"))), "finite")


@pytest.mark.parametrize("weighted", [True, False])
def test_mended_round_is_not_yet_while_the_chain_is_aliased(weighted):
    verdict = checks.mended_round(a_round(keep=live, start=nothing, weighted=weighted))
    assert not verdict.started
    assert "chain" in verdict.message
