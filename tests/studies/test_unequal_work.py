"""The study of unequal work: who is slow, and what each case measures."""

import pytest

from fedlab_helpers.studies import unequal_work

RUNS = {(run["strategy"], run["late"]): run for run in unequal_work.UNEQUAL_WORK.runs}
SHORT = {"clients": 200, "cohort": 10, "rounds": 1, "epochs": 1, "batch_size": 5}  # 2 steps each


def test_the_clients_of_one_domain_are_slow_and_speeds_are_those_of_the_seed(monkeypatch):
    settings = {"partition": "by_domain", "clients": 20, "seed": 0}
    speeds = unequal_work.client_speeds(settings)
    monkeypatch.setattr(unequal_work, "FACTOR", 1.0)
    plain = unequal_work.client_speeds(settings)
    slow = [at for at in range(20) if speeds[at] != plain[at]]
    assert slow == list(range(4, 12)), "the hotels' clients, after four bookshops'"
    assert [speeds[at] for at in slow] == [plain[at] / 4 for at in slow]
    assert speeds != unequal_work.client_speeds(settings | {"seed": 1})


@pytest.mark.parametrize("case", unequal_work.CASES, ids=" ".join)
def test_a_case_is_the_run_it_names(monkeypatch, few, case):
    """All clients have two steps to take; the median client gets halfway by the deadline."""
    monkeypatch.setattr(unequal_work, "DEADLINE", 1.5)
    rows = unequal_work.measure_unequal_work(RUNS[case] | SHORT)
    asynchronous, last = case[0] == "fedbuff", rows[-1]
    assert [row["round"] for row in rows] == ([1, 2] if asynchronous else [1])
    assert not last.keys() & RUNS[case].keys(), "a measurement must not hide a setting"
    steps = sum(row["steps"] for row in rows)
    whole = case[1] in ("waited for", "asynchronous")
    assert steps == 20 if whole else 0 < steps < 20
    assert (last["left_out"] > 0) == (case[1] == "dropped") or case[1] == "partial work"
    assert last["clock"] > 1.5 if whole else last["clock"] == 1.5
    assert last["total_bytes"] > last["bytes_up"] > 0
    assert 0.4 < last["accuracy"] < 0.7  # ten clients of some 60 reviews, one round
    assert 0.3 < last["slow_accuracy"] < 0.7
