"""The checks of notebook 00: right answers pass, typical wrong ones get a hint that fits."""

from verdicts import refused

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.checks import start_here as checks

TWO_EPOCHS = LocalConfig(epochs=2, batch_size=32)


def run(*accuracies, clients=10):
    cohort = tuple(range(clients))
    return [
        RoundRecord(n, cohort, 1, 1, {0: 1.0}, {}, 1_000_000, 500_000, 1.0, {"accuracy": accuracy})
        for n, accuracy in enumerate(accuracies, start=1)
    ]


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


def test_misjudged_wants_a_disagreement():
    assert checks.misjudged("很好", 0, 0.9).passed
    assert checks.misjudged("很差", 1, 0.1).passed
    refused(checks.misjudged("very good", 0, 0.9), "no Chinese character")
    refused(checks.misjudged("很好", "positive", 0.9), "say 1 for positive")
    refused(checks.misjudged("很好", 1, 0.9), "agrees with you")
    refused(checks.misjudged("很差", 0, 0.1), "agrees with you")
