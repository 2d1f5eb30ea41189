"""Checks of notebook 05: local work and cohorts."""

from collections.abc import Callable

from fedlab_helpers.core.history import History
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, whole, wrong

BUDGET_BYTES, TARGET_ACCURACY = 80_000_000, 0.70
CLIENT_MB = 3.9  # what one client costs in one round, both ways


@exercise("say how many trainings of a client 80 MB pay for")
def trainings(answer: int) -> Verdict:
    """Judge how often a client that costs 3.9 MB a round can be asked for 80 MB."""
    got = whole(answer)
    if got == 20:
        return right("two rounds of ten clients, ten rounds of two: epochs are not in it.")
    if got == 26:
        return wrong("the weights that go down count, too: 3.1 MB down and 0.8 MB up.")
    if got == 100:
        return wrong("that would be for the upload alone; the weights go down before.")
    nearly = (80 / 3.9, 20.5, 21)
    if not isinstance(answer, str) and any(near(answer, value, 1e-3) for value in nearly):
        return wrong("a whole number, please: the last training must be paid for in full.")
    return wrong(f"got {answer!r}; divide the budget by what one client costs in one round.")


@exercise("write `first_to_stay`: where a stretch of rounds at the target begins")
def first_to_stay(function: Callable[[list[float], float, int], int | None]) -> Verdict:
    """Judge a function of (accuracies, target, rounds) that returns a round, from 1, or None."""
    luck = [0.5, 0.76, 0.6, 0.75, 0.8, 0.78, 0.6]
    cases = {
        (0.75, 3): (4, "one lucky round is not enough; where do three in a row begin?"),
        (0.75, 1): (2, "with rounds=1 the first round at the target counts; they count from 1."),
        (0.75, 4): (None, "it never stays four rounds: return None."),
        (0.5, 7): (1, "all seven rounds are at the target of 0.5: 0.5 itself is enough."),
        (0.6, 2): (2, "from round 2 on it is at 0.6 or above."),
        (0.9, 1): (None, "it never comes to 0.9: return None."),
        (0.6, 6): (2, "the last rounds count as well: 2 to 7 are six in a row."),
        (0.5, 9): (None, "seven rounds cannot hold nine in a row."),
    }  # fmt: skip
    for (target, rounds), (expected, hint) in cases.items():
        got = function(list(luck), target, rounds)
        if got is None if expected is None else whole(got) == expected:
            continue
        if expected is not None and whole(got) == expected - 1:
            hint = "Rounds count from 1."
        elif rounds > 1 and expected is not None and whole(got) == expected + rounds - 1:
            hint = "There the stretch ends; where does it begin?"
        elif got is None and (target, rounds) == (0.75, 3):
            hint = "At least: 0.75 itself is enough."
        return wrong(f"{luck}, target {target}, {rounds} in a row: you say {got!r}. {hint}")
    return right("a target that is reached by luck once is not counted any more.")


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
    if history[-1].metrics.get("examples") != 1736:
        return wrong("judge by test=task.validation, the 1,736 validation reviews.")
    accuracy, megabytes = history[-1].metrics["accuracy"], spent / 1e6
    told = f"{accuracy:.1%} for {megabytes:.1f} MB"
    if spent > BUDGET_BYTES:
        return wrong(
            f"{told}: over the budget. What multiplies the bytes: the rounds, the cohort, the "
            "epochs, the batch size?"
        )
    best = max(record.metrics.get("accuracy", 0.0) for record in history)
    if accuracy < TARGET_ACCURACY <= best:
        return wrong(f"{told} after the last round, though an earlier one was at the target.")
    if accuracy < TARGET_ACCURACY:
        return wrong(f"{told}: within the budget. How can the clients do more between two sends?")
    return right(f"{told}. Computing between sends is what FedAvg trades against bytes.")


@exercise("write `make_plan`: a Plan for any budget, number of clients, and reviews a client")
def make_plan(function: Callable[[float, int, int], Plan]) -> Verdict:
    """Judge a function of (megabytes, clients, reviews) by what its plans spend and ask for."""
    cases = [(80, 20, 320), (30, 20, 320), (800, 200, 60), (4000, 10, 5000), (100, 3, 40)]
    for case in cases:
        megabytes, clients, reviews = case
        plan = function(*case)
        told = f"for {megabytes} MB, {clients} clients of {reviews} reviews:"
        if not isinstance(plan, Plan):
            return wrong(f"{told} expected a Plan, got {type(plan).__name__}.")
        cohort = plan.clients_per_round or clients
        spent, steps = plan.rounds * cohort * CLIENT_MB, plan.local.steps(reviews)
        faults = {
            f"a cohort of {cohort}; there are not so many clients.": cohort > clients,
            f"{spent:.0f} MB; rounds × cohort × {CLIENT_MB} is too much.": spent > megabytes,
            f"{spent:.0f} MB; at least four fifths of the budget are to be used.": (
                spent < 0.8 * megabytes
            ),
            f"{plan.rounds} rounds; at least 5, or there is no curve to judge by.": plan.rounds < 5,
            f"{steps} steps a client and round; at least 10, or the round is wasted.": steps < 10,
            f"{steps} steps a client and round; at most 200, or clients drift.": steps > 200,
        }
        if fault := next((fault for fault, found in faults.items() if found), None):
            return wrong(f"{told} {fault}")
    return right("it fits every budget. The section *What should I do?* says what to tune.")
