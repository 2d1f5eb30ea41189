"""The checks of notebook 16: right answers pass, mistakes get hints, stubs are not yet."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brief_toys import entered, toy_brief
from verdicts import refused

from fedlab_helpers.lessons.checks import briefs as checks
from fedlab_helpers.studies.design import Design, measure
from fedlab_helpers.studies.results import half_width


def megabytes_up(values, bits, rounds, cohort, clients):
    return values * bits / 8 / 1e6 * rounds * cohort / clients


def losing(scores, alone, higher):
    pairs = list(zip(scores, alone, strict=True))
    return sum(a > s if higher else a < s for s, a in pairs) / len(pairs)


def standing(own, scores, higher):
    gain = own - sum(scores) / len(scores)
    if abs(gain) <= half_width(scores) * (len(scores) + 1) ** 0.5:
        return "level"
    return "ahead" if (gain > 0) == higher else "behind"


RIGHT = [
    (checks.megabytes_up, megabytes_up),
    (checks.megabytes_up, lambda *told: torch.tensor(megabytes_up(*told))),
    (checks.losing, losing),
    (checks.losing, lambda *told: np.float64(losing(*told))),
    (checks.standing, standing),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    check(answer).require()


def all_clients(values, bits, rounds, cohort, clients):
    return megabytes_up(values, bits, rounds, cohort, clients) * clients


WRONG = [
    (checks.megabytes_up, lambda v, b, r, c, n: v * b / 1e6 * r * c / n, "eight bits"),
    (checks.megabytes_up, lambda v, b, r, c, n: v * b / 8e6 * r, "only"),
    (checks.megabytes_up, lambda v, b, r, c, n: v * b / 8 * r * c / n, "1,000,000"),
    (checks.megabytes_up, all_clients, "all clients"),
    (checks.megabytes_up, lambda v, b, r, c, n: v * b / 8e6 * (r * c // n), "on average"),
    (checks.megabytes_up, lambda *told: 3.0, "expected"),
    (checks.megabytes_up, lambda *told: "much", "a number"),
    (checks.losing, lambda s, a, up: losing(s, a, True), "less is better"),
    (checks.losing, lambda s, a, up: losing(s, a, up) * len(s), "a share"),
    (checks.losing, lambda s, a, up: losing(s, a, up) + np.equal(s, a).mean(), "level does not"),
    (checks.losing, lambda s, a, up: 0.123, "expected"),
    (checks.losing, lambda s, a, up: None, "does it end with `return`"),
    (checks.standing, lambda o, s, up: standing(o, s, True), "less is better"),
    (checks.standing, lambda o, s, up: "better", "got 'better'"),
    (checks.standing, lambda o, s, up: "ahead" if (o > np.mean(s)) == up else "behind",
     "one more run"),
    (checks.standing, lambda o, s, up: "level", "farther than one more run"),
    (checks.hotel_design, 3, "is what `measure"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(check, answer, hint):
    refused(check(answer), hint)


def stub(*told):
    raise NotImplementedError


@pytest.mark.parametrize("check", [checks.megabytes_up, checks.losing, checks.standing])
def test_stubs_are_not_yet(check):
    assert not check(stub).started
    assert not checks.hotel_design(None).started


def test_the_design_is_judged_by_its_outcome(monkeypatch):
    with entered(monkeypatch, toy_brief(name="hotels")):
        made = measure("hotels", Design("gru", 4, rounds=2, cohort=3, batch=4))
        refused(checks.hotel_design(made), "it misses losing: 1 of 0.5")
        refused(checks.hotel_design(replace(made, brief=toy_brief())), "'toy'")
        easier = replace(made.brief, limits={})
        refused(checks.hotel_design(replace(made, brief=easier)), "no outcome of the brief")
        kept = replace(made, used=made.used | {"losing": 0.0})
        checks.hotel_design(kept).require()  # 20 is more than 3
        worse = replace(kept, scores=dict.fromkeys(kept.scores, 0.0))
        refused(checks.hotel_design(worse), "no more than")
