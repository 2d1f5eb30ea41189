"""The checks of notebook 00: right answers pass, typical wrong ones get a hint that fits."""

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.checks import start_here as checks

WHOLE = (int, float, np.int32, np.int64, np.float32, np.array, torch.tensor)
TWO_EPOCHS = LocalConfig(epochs=2, batch_size=32)


def run(*accuracies, clients=10, steps=20, seed=0):
    """Return the records of a run over forty clients of 304 reviews each."""
    plan = Plan(len(accuracies), clients, seed=seed)
    held, taken = 304 * clients, steps * clients
    return [
        RoundRecord(
            n, sample_cohort(plan, n, 40), held, taken, {0: 1.0}, {}, 1_000_000, 500_000, 1.0,
            {"accuracy": accuracy},
        )
        for n, accuracy in enumerate(accuracies, start=1)
    ]  # fmt: skip


FULL = run(0.55, 0.6, 0.65, 0.7, 0.72, 0.75, 0.8)


def test_local_steps_counts_the_last_small_batch_and_every_epoch():
    assert checks.local_steps(20, 304, TWO_EPOCHS).passed
    assert checks.local_steps(18, 288, TWO_EPOCHS).passed
    hints = {
        10: "one pass", 18: "left over", 9: "more than one local epoch",
        304: "number of reviews", 608: "whole batch", 200: "how many batches",
    }  # fmt: skip
    for answer, hint in hints.items():
        refused(checks.local_steps(answer, 304, TWO_EPOCHS), hint)
    refused(checks.local_steps(9.5, 304, TWO_EPOCHS), "a whole number")
    for kind in WHOLE:
        assert checks.local_steps(kind(20), 304, TWO_EPOCHS).passed
        refused(checks.local_steps(kind(18), 304, TWO_EPOCHS), "left over")


def cost(records, accuracy):
    sent = 0
    for record in records:
        sent += record.bytes_down + record.bytes_up
        if record.metrics["accuracy"] >= accuracy:
            return sent
    return None


def test_cost_to_reach_passes_a_right_function_and_knows_the_stub():
    assert checks.cost_to_reach(cost).passed
    assert not checks.cost_to_reach(lambda records, accuracy: None).started
    for kind in WHOLE:
        own = lambda rs, a, kind=kind: None if (c := cost(rs, a)) is None else kind(c)  # noqa: E731
        assert checks.cost_to_reach(own).passed, kind


def reached(records, accuracy):
    """Return the records up to the first round that is good enough, or nothing."""
    for number, record in enumerate(records, start=1):
        if record.metrics["accuracy"] >= accuracy:
            return records[:number]
    return None


def total(records):
    return sum(record.bytes_down + record.bytes_up for record in records)


def test_cost_to_reach_hints():
    until = lambda count: lambda rs, a: (p := reached(rs, a)) and count(p)  # noqa: E731
    for function, *hints in (
        (until(lambda p: sum(r.bytes_up for r in p)), "what clients sent"),
        (until(lambda p: sum(r.bytes_down for r in p)), "were sent; they"),
        (until(lambda p: total(p[-1:])), "second round alone"),
        (until(lambda p: total(p[:-1])), "also paid for"),
        (lambda rs, a: reached(rs, a) and total(rs), "stop at the first"),
        (lambda rs, a: total(rs), "return None"),
        (lambda rs, a: cost(rs, a) or "never", "a whole number of bytes, or None"),
        (until(lambda p: total(p) / 1e6), "a whole number of bytes"),
        (lambda rs, a: cost(rs, a + 1e-9), "equal to the target"),
    ):
        refused(checks.cost_to_reach(function), *hints)


def test_half_cohort_reports_both_runs():
    verdict = checks.half_cohort(run(0.54, 0.6, 0.6, 0.6, 0.6, 0.7, clients=5), FULL)
    assert verdict.passed
    assert "70.0% for 9 MB with 5" in verdict.message
    assert "75.0% for 9 MB with 10" in verdict.message
    refused(checks.half_cohort(run(0.54, 0.6, clients=5), FULL), "2 rounds")
    refused(checks.half_cohort(run(*[0.54] * 6, clients=10), FULL), "ask 5")
    refused(checks.half_cohort(run(*[0.8] * 6, clients=5), FULL), "had been trained before")
    untested = [RoundRecord(1, (0,) * 5, 1, 1, {}, {}, 1, 1, 1.0)] * 6
    refused(checks.half_cohort(untested, FULL), "test=task.test")


def test_half_cohort_refuses_other_work_and_another_seed():
    six = (0.54, 0.6, 0.6, 0.6, 0.6, 0.7)
    once = run(*six, clients=5, steps=10)
    refused(checks.half_cohort(once, FULL), "10 steps a client, 20 in")
    refused(checks.half_cohort(run(*six, clients=5, steps=19), FULL), "local=local")
    refused(checks.half_cohort(run(*six, clients=5, seed=7), FULL), "seed=0")
    other = run(*[0.5] * 6, seed=3)  # whoever ran the notebook with another seed
    assert checks.half_cohort(run(*six, clients=5, seed=3), other).passed
    assert "you know" in checks.half_cohort(run(*six, clients=5), FULL).message


def test_misjudged_wants_a_disagreement():
    assert checks.misjudged("很好", 0, 0.9).passed
    assert checks.misjudged("很差", 1, 0.1).passed
    refused(checks.misjudged("very good", 0, 0.9), "no Chinese character")
    refused(checks.misjudged("很好", "positive", 0.9), "say 1 for positive")
    refused(checks.misjudged("很好", 1, 0.9), "agrees with you")
    refused(checks.misjudged("很差", 0, 0.1), "agrees with you")
    assert checks.misjudged("很差", np.int64(1), torch.tensor(0.1)).passed
    for taken in ("没有让我失望。", "没有让我失望", " 没有让我失望！", "没有 让我失望。"):
        refused(checks.misjudged(taken, 1, 0.1), "of your own")
    refused(checks.misjudged("键盘不错, 屏幕不错, 就是不能开机", 0, 0.9), "of your own")


def dealt(sizes=(1,) * 39 + (61,)):
    """Return parts of these sizes, one after the other."""
    ends = np.cumsum(sizes)
    return [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize(
    "form",
    [
        list, tuple, lambda p: dict(enumerate(p)), lambda p: [np.array(x) for x in p],
        lambda p: [torch.tensor(x) for x in p], lambda p: [np.float64(x) for x in p],
        lambda p: [set(x) for x in p], lambda p: p[::-1], lambda p: map(tuple, p),
    ],
)  # fmt: skip
def test_own_parts_passes_any_form(form):
    assert checks.own_parts(form(dealt()), 100).passed


def test_own_parts_hints():
    parts = dealt()
    for wrong, hint in (
        (parts[:39], "39 clients"),
        ([*parts[:39], []], "hold nothing"),
        ([*parts[:39], parts[39][1:]], "1 reviews are with nobody"),
        ([*parts[:39], [*parts[39], 0]], "more than one client"),
        ([*parts[:39], [*parts[39][:-1], 100]], "from 0 to 99"),
        ([*parts[:39], [*parts[39][:-1], -1]], "from 0 to 99"),
        ([*parts[:39], [*parts[39][:-1], 98.5]], "whole number"),
        (dealt((2,) * 20 + (3,) * 20), "at least 5 times"),
        (parts[0], "clients came"),
        ([["a"]] * 40, "raised"),
    ):
        refused(checks.own_parts(wrong, 100), hint)
