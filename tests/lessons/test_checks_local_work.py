"""Each check of notebook 05 passes every right answer and has a hint for typical wrong ones."""

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.checks import local_work as checks


@pytest.mark.parametrize("form", [int, np.int64, torch.tensor, float])
def test_trainings(form):
    assert checks.trainings(form(20)).passed
    refused(checks.trainings(form(26)), "down")
    refused(checks.trainings(form(100)), "upload alone")
    refused(checks.trainings(form(21)), "in full")
    for answer in (2, 10, 312):
        refused(checks.trainings(form(answer)), "one client costs")
    refused(checks.trainings(20.5), "in full")
    refused(checks.trainings(80 / 3.9), "in full")
    refused(checks.trainings("20"), "divide")


def staying(least=np.greater_equal, first=1, missing=None, skip=0):
    """Return a `first_to_stay` in which one thing may be wrong."""

    def function(accuracies, target, rounds):
        fine = least(np.array(accuracies), target)
        for start in range(len(fine) - rounds + 1 - skip):
            if fine[start : start + rounds].all():
                return start + first
        return missing

    return function


def test_first_to_stay():
    assert checks.first_to_stay(staying()).passed
    assert checks.first_to_stay(staying(first=np.int64(1))).passed
    refused(checks.first_to_stay(staying(first=0)), "you say 3", "count from 1")
    refused(checks.first_to_stay(staying(first=3)), "you say 6", "stretch ends")
    refused(checks.first_to_stay(staying(least=np.greater)), "you say None", "itself is enough")
    refused(checks.first_to_stay(staying(missing=0)), "None")
    refused(checks.first_to_stay(staying(skip=1)), "you say")
    refused(checks.first_to_stay(lambda a, t, n: staying()(a, t, 1)), "lucky")
    refused(checks.first_to_stay(lambda a, t, n: staying()(a, t, n) or len(a)), "None")
    refused(checks.first_to_stay(lambda a, t, n: [k for k in a if k > t][9]), "IndexError")


def run_of(accuracy: float | None, rounds: int, bytes_a_round: int, examples=1736) -> History:
    metrics = {} if accuracy is None else {"accuracy": accuracy, "examples": examples}
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
    for others in (3473, 320, None):  # test reviews, a client's own, not said
        refused(checks.byte_budget(run_of(0.8, 2, enough, others)), "1,736 validation")
    early, late = run_of(0.71, 1, enough), run_of(0.69, 1, enough)
    refused(checks.byte_budget(History((*early, *late))), "last round", "earlier")
    refused(checks.byte_budget(0.8), "History")
    refused(checks.byte_budget(History(())), "History")


def planner(cohort=None, waste=1.0, epochs=None, rounds=None, batch=None):
    """Return a `make_plan` in which one thing may be wrong."""

    def function(megabytes, clients, reviews):
        asked = cohort or min(clients, max(1, int(megabytes / checks.CLIENT_MB / 10)))
        turns = rounds or int(waste * megabytes / checks.CLIENT_MB / asked)
        size = batch or max(8, reviews // 50)
        local = LocalConfig(epochs or -(-20 // -(-reviews // size)), size)
        return Plan(turns, asked, local)

    return function


def test_make_plan():
    assert checks.make_plan(planner()).passed
    refused(checks.make_plan(planner(cohort=21, rounds=5, waste=0)), "not so many clients")
    refused(checks.make_plan(planner(waste=1.2)), "too much")
    refused(checks.make_plan(planner(waste=0.7)), "four fifths")
    refused(checks.make_plan(planner(cohort=5, rounds=4)), "at least 5")
    refused(checks.make_plan(planner(epochs=1, batch=64)), "at least 10")
    refused(checks.make_plan(planner(epochs=20, batch=8)), "at most 200")
    refused(checks.make_plan(lambda *case: case), "expected a Plan")
    refused(checks.make_plan(lambda *case: Plan(0)), "ValueError")
