"""Checks for notebook 00: a first federated run, its work and its cost, and who holds what."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, right, whole, wrong

# (accuracy, bytes down, bytes up) of the rounds on which a reader's function is tried.
_TRIED = ((0.50, 100, 10), (0.70, 100, 20), (0.65, 100, 30), (0.80, 100, 40))


@exercise("put the number of steps into my_steps.")
def local_steps(steps: int, reviews: int, local: LocalConfig) -> Verdict:
    """Mark how many optimiser steps a client with so many reviews takes in one round."""
    batches, got = math.ceil(reviews / local.batch_size), whole(steps)
    expected = batches * local.epochs
    if got == expected:
        return right(
            f"{batches} batches, {local.epochs} times over: {expected} steps before the client "
            "talks to the server again."
        )
    full = reviews // local.batch_size
    hints = {
        batches: f"that is one pass over the reviews; a client makes {local.epochs} in a round.",
        full * local.epochs: "the reviews left over make a last, smaller batch, and a step.",
        full: "the left-over reviews make a batch too, and there is more than one local epoch.",
        reviews: "that is the number of reviews; one step takes a whole batch of them.",
        reviews * local.epochs: "so many reviews pass by; one step takes a whole batch of them.",
    }
    general = "how many batches make one pass over the client's reviews, and how many passes?"
    if got is None:
        general = "a whole number of steps, please: half a batch is a batch, and takes a step."
    return wrong(f"{steps}: {hints.get(got, general)}")


@exercise("write cost_to_reach, which so far returns nothing.")
def cost_to_reach(function: Callable[[Sequence[RoundRecord], float], int | None]) -> Verdict:
    """Mark a function that counts the bytes sent until an accuracy was first reached."""
    records = [
        RoundRecord(number, (0,), 1, 1, {0: 1.0}, {}, down, up, 1.0, {"accuracy": accuracy})
        for number, (accuracy, down, up) in enumerate(_TRIED, start=1)
    ]
    found = {target: function(records, target) for target in (0.5, 0.6, 0.7, 0.8, 0.9)}
    if all(cost is None for cost in found.values()):
        raise NotImplementedError
    if strange := [v for v in found.values() if v is not None and whole(v) is None]:
        return wrong(f"you returned {strange[0]!r}; return a whole number of bytes, or None.")
    found = {target: whole(cost) for target, cost in found.items()}
    if found[0.9] is not None:
        return wrong(f"no round reached 0.9, and you returned {found[0.9]!r}; return None there.")
    if found[0.6] != 230:
        return wrong(_cost_hint(found[0.6]))
    if (found[0.5], found[0.7], found[0.8]) != (110, 230, 500):
        return wrong("an accuracy equal to the target has reached it; count up to that round.")
    return right(
        "bytes both ways, up to the first round that is good enough. Comparing methods at equal "
        "accuracy by what they sent is fairer than comparing them at equal rounds."
    )


def _cost_hint(found: int | None) -> str:
    """Say what was probably forgotten on the way to 0.6, which round 2 is the first to reach."""
    shown = "; ".join(f"{accuracy}: {down} down, {up} up" for accuracy, down, up in _TRIED)
    guesses = {
        20: "one direction of one round; add the other, and the round before.",
        30: "that is what clients sent; they were also sent something.",
        200: "that is what clients were sent; they also sent something.",
        120: "that is the second round alone; the first was paid for, too.",
        110: "the round that reaches it was also paid for.",
        500: "stop at the first round that reaches it.",
        None: "round 2 reaches it.",
    }
    thought = guesses.get(found, "add both directions, round by round, up to round 2.")
    return f"in rounds with accuracy and bytes {shown}; up to 0.6 you say {found}: {thought}"


@exercise("run six rounds with half the cohort and keep their records in my_records.")
def half_cohort(mine: Sequence[RoundRecord], full: Sequence[RoundRecord]) -> Verdict:
    """Mark a run that differs from the notebook's in one thing: half as many clients a round."""
    wanted = len(full[0].cohort) // 2
    asked = {len(record.cohort) for record in mine}
    if len(mine) != 6:
        return wrong(f"{len(mine)} rounds came back; run 6.")
    if asked != {wanted}:
        return wrong(f"{sorted(asked)} clients were asked in a round; ask {wanted}.")
    if not all(record.metrics for record in mine):
        return wrong("there is no accuracy in the records: give test=task.test.")
    if hint := _other_work(mine, full[:6]):
        return wrong(hint)
    first, last = mine[0].metrics["accuracy"], mine[-1].metrics["accuracy"]
    if first > full[0].metrics["accuracy"] + 0.1:
        return wrong(
            f"the first round is at {first:.1%} already: this model had been trained before. "
            "Begin with a new one, or two things differ between the runs."
        )
    sent, sent_full = (sum(r.bytes_down + r.bytes_up for r in run) for run in (mine, full[:6]))
    return right(
        f"after 6 rounds {last:.1%} for {sent / 1e6:.0f} MB with {wanted} clients a round, "
        f"{full[5].metrics['accuracy']:.1%} for {sent_full / 1e6:.0f} MB with "
        f"{len(full[0].cohort)}. One run each is a first look, no proof. (The records show neither "
        "the learning rate nor the first weights: that these were the same, you know.)"
    )


def _other_work(mine: Sequence[RoundRecord], full: Sequence[RoundRecord]) -> str | None:
    """Say what records show of other local work, or of another seed, than the full run's; None:
    nothing."""
    work, work_full = (
        sum(r.steps for r in run) / sum(r.examples for r in run) for run in (mine, full)
    )
    if not math.isclose(work, work_full, rel_tol=0.02):  # clients of unlike sizes differ a little
        each, each_full = (run[0].steps / len(run[0].cohort) for run in (mine, full))
        return f"{each:g} steps a client, {each_full:g} in the notebook: give the plan local=local."
    if _drawn_by_0(full) and not _drawn_by_0(mine):
        return (
            "other clients than seed 0 draws were asked: give the plan seed=0, as in the notebook."
        )
    return None


def _drawn_by_0(run: Sequence[RoundRecord]) -> bool:
    """Return whether these are the cohorts that seed 0 draws from forty clients."""
    plan = Plan(len(run), len(run[0].cohort), seed=0)
    return all(record.cohort == sample_cohort(plan, record.round, 40) for record in run)


_TAKEN = ("没有让我失望。", "键盘不错，屏幕不错，就是不能开机。")  # the notebook's traps


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


@exercise("find a review that the model gets wrong, and put it into my_review.")
def misjudged(text: str, label: int, positive: float) -> Verdict:
    """Mark a Chinese review of the reader's own that the model misjudges: the label, 1 or 0, is by
    the reader, and `positive` is the model's probability of 1."""
    if not any("\u4e00" <= character <= "\u9fff" for character in text):
        return wrong("there is no Chinese character in it, so every word is unknown to the model.")
    if _letters(text) in map(_letters, _TAKEN):
        return wrong("that trap is the notebook's; set one of your own.")
    if label not in (0, 1):
        return wrong(f"the label is {label!r}; say 1 for positive or 0 for negative.")
    if (positive > 0.5) == bool(label):
        return wrong(
            f"the model gives {positive:.0%} for positive and agrees with you. Try words that "
            "point one way in a sentence that goes the other."
        )
    return right(
        f"{positive:.0%} for positive, and you know better. Which word misled it? Leave words out "
        "one by one and look again."
    )


@exercise("deal the reviews to forty clients, and put the lists of positions into my_parts.")
def own_parts(parts: Sequence[Sequence[int]], reviews: int) -> Verdict:
    """Mark a partition of so many reviews over forty clients of very unequal sizes."""
    parts = parts.values() if isinstance(parts, Mapping) else parts
    parts = [np.ravel(sorted(part) if isinstance(part, set) else part) for part in parts]
    sizes = [len(part) for part in parts]
    if len(parts) != 40:
        return wrong(f"{len(parts)} clients came; make 40.")
    if empty := sizes.count(0):
        return wrong(f"{empty} of the clients hold nothing; give each at least one review.")
    dealt = np.concatenate(parts)
    if (dealt != dealt.astype(int)).any() or dealt.min() < 0 or dealt.max() >= reviews:
        return wrong(
            f"a position is a whole number from 0 to {reviews - 1}; others are there, too."
        )
    times = np.bincount(dealt.astype(int), minlength=reviews)
    if times.max() > 1:
        return wrong(f"{(times > 1).sum()} reviews are with more than one client.")
    if not times.all():
        return wrong(f"{(times == 0).sum()} reviews are with nobody.")
    small, large = min(sizes), max(sizes)
    if large < 5 * small:
        return wrong(
            f"sizes from {small} to {large}: the largest is {large / small:.1f} times the "
            "smallest; make it at least 5 times."
        )
    return right(
        f"{reviews} reviews, each with one client, {small} to {large} a client. In the mean the "
        f"largest counts {large / small:.0f} times as much as the smallest."
    )
