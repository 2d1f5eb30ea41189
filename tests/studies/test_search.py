"""The search for designs: it proposes what can be run, keeps every trial, and goes on from them."""

import json
import math
import sys
from dataclasses import replace

import pandas as pd
import pytest
from brief_toys import entered, toy_brief

from fedlab_helpers.privacy.budget import noise_multiplier_for
from fedlab_helpers.studies import __main__ as studies
from fedlab_helpers.studies import references, results, search
from fedlab_helpers.studies.briefs import BRIEFS
from fedlab_helpers.studies.design import Design

optuna = pytest.importorskip("optuna")
START = Design("gru", 8, rounds=8, cohort=5, batch=8, server_rate=1.0)


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(search, "references", lambda name: {"plain": START})
    with entered(monkeypatch, toy_brief()) as made:
        yield made


def test_it_begins_with_a_reference_and_goes_on_from_its_table(brief, tmp_path, capsys):
    path = search.search("toy", tmp_path, most=2)
    before = results.read(path)
    assert [row["trial"] for row in before] == ["0", "1"]
    assert Design.from_json(before[0]["design"]) == START
    assert all(row["refused"] or float(row["score"]) > 0 for row in before)
    assert search.search("toy", tmp_path, most=5) == path
    after = results.read(path)
    assert after[:2] == before
    assert [row["trial"] for row in after] == ["0", "1", "2", "3", "4"]
    assert len({row["proposed"] for row in after}) == 5
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert search.search("toy", tmp_path, most=5).read_bytes() == path.read_bytes()
    spent = sum(float(row["seconds"]) for row in after)
    search.search("toy", tmp_path, minutes=0.999 * spent / 60)
    assert results.read(path) == after


def test_what_was_told_before_is_known_after_a_restart(brief, tmp_path, monkeypatch, capsys):
    search.search("toy", tmp_path, most=3)
    kept, create = [], optuna.create_study
    monkeypatch.setattr(optuna, "create_study", lambda **o: kept.append(create(**o)) or kept[-1])
    path = search.search("toy", tmp_path, most=4)
    rows, trials = results.read(path), kept[0].trials
    assert [json.loads(row["proposed"]) for row in rows] == [trial.params for trial in trials]
    for row, trial in zip(rows, trials, strict=True):
        if row["score"]:
            assert trial.value == float(row["score"])
            limit = brief.limits["device_kilobytes"]
            over = float(row["device_kilobytes"]) / limit - 1
            assert trial.constraints["device_kilobytes"] == pytest.approx(over)


def test_a_trial_that_cannot_be_run_is_kept_with_its_reason(brief, tmp_path, monkeypatch, capsys):
    errors = [ValueError("no\nway"), OverflowError("math range error")]

    def fails(name, design, seed):
        raise errors.pop(0)

    monkeypatch.setattr(search, "measure", fails)
    rows = results.read(search.search("toy", tmp_path, most=2))
    assert [row["refused"] for row in rows] == ["no way", "math range error"]
    assert [row["score"] for row in rows] == ["", ""]


def test_a_table_of_another_space_is_not_gone_on_from(brief, tmp_path, capsys):
    path = search.search("toy", tmp_path, most=2)
    table = path.read_text()
    path.write_text(table.replace('""rounds"": 8', '""rounds"": 9', 1))
    assert path.read_text() != table
    with pytest.raises(ValueError, match="would propose"):
        search.search("toy", tmp_path, most=3)


def test_noise_is_what_the_budget_needs(monkeypatch):
    limits = {"epsilon": 4.0}
    with entered(monkeypatch, toy_brief(protects="client", limits=limits)) as asks:
        design = Design("gru", 8, "private", {"noise_multiplier": 9.0}, 1.0, rounds=8, cohort=5)
        trial = optuna.trial.FixedTrial(search.proposed(design, asks))
        made = search.propose(trial, asks)
    noise = dict(made.parameters)["noise_multiplier"]
    assert noise == noise_multiplier_for(4.0, 8, 5, 5, "all")
    own = dict(design.parameters) | {"noise_multiplier": noise}
    assert made == replace(design, parameters=own)


def test_a_reference_design_is_in_the_space(brief):
    designs = [
        START,
        Design("lstm", 16, "private", {"clip": 2.0}, 2.0, "sgd", 4.0, rounds=15, cohort=5,
               tuning=3, tuning_rate=0.5, device="bits8"),
        Design(rounds=9, cohort=5, keep="topk", amount=0.05, write="bits8", feedback=True,
               server_rate=1.0),
        Design("bag", 24, "median", rounds=9, cohort=5, server_rate=1.0),
    ]  # fmt: skip
    for design in designs:
        promised = "client" if design.strategy == "private" else ""
        asks = toy_brief(protects=promised)
        trial = optuna.trial.FixedTrial(search.proposed(design, asks))
        assert search.propose(trial, asks) == design


def test_only_strategies_that_can_keep_the_budgets_are_tried(monkeypatch):
    with entered(monkeypatch, toy_brief()):
        free = search.strategies_for(toy_brief())
        assert {"fedavg", "median", "scaffold"} <= {*free}
        assert not {"private", "dp_sgd"} & {*free}
        assert search.strategies_for(toy_brief(protects="example")) == ["dp_sgd"]
        own = search.strategies_for(toy_brief(protects="client"))
        assert own == ["private", "private_adaptive"]
        hidden = search.strategies_for(toy_brief(limits={"seen": 0}))
        assert "fedavg" in hidden
        assert not {"median", "scaffold", "rowwise"} & {*hidden}


def test_how_far_a_budget_is_exceeded():
    brief = toy_brief(limits={"epsilon": 8, "losing": 0.5, "seen": 0})
    assert search.over(brief, {"epsilon": 4, "losing": 0.75, "seen": 1.0}) == [-0.5, 0.5, 1.0]
    assert search.over(brief, {"epsilon": math.inf, "losing": 0.5, "seen": 0.0}) == [10.0, 0, 0]


def test_the_best_is_within_all_budgets(brief):
    designs = [Design(size=size).to_json() for size in (4, 8, 16, 32)]
    rows = {
        "design": designs,
        "score": [1.0, 3.0, 2.0, None],
        "missed": ["losing", None, None, None],
        "refused": [None, None, None, "no"],
    }
    assert search.best("toy", pd.DataFrame(rows)) == Design(size=16)  # an error: less is better
    with pytest.raises(ValueError, match="within all budgets: got 0"):
        search.best("toy", pd.DataFrame(rows | {"missed": ["losing"] * 4}))


def test_without_optuna_it_says_what_to_install(brief, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[search\]"'):
        search.search("toy", tmp_path)


def test_the_command(monkeypatch, tmp_path, capsys):
    asked = []

    def searched(name, folder, minutes):
        asked.append((name, folder, minutes))
        return folder / name

    monkeypatch.setattr(search, "search", searched)
    given = ["search", "hotels", "clinics", "--minutes", "3", "--folder", str(tmp_path / "new")]
    assert studies.main(given) == 0
    assert asked == [(name, tmp_path / "new", 3) for name in ("hotels", "clinics")]
    for wrong in (["search", "bank"], ["search", "hotels", "--minutes", "0"]):
        with pytest.raises(SystemExit):
            studies.main(wrong)
    assert "invalid choice: 'bank'" in capsys.readouterr().err

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "search", interrupted)
    assert studies.main(["search", "hotels"]) == 130


def test_a_table_of_other_columns_is_left_alone(brief, tmp_path):
    path = tmp_path / "search_toy.csv"
    path.write_text("study,trial,score\nsearch_toy,0,0.5\n")
    with pytest.raises(ValueError, match=r"search_toy\.csv: columns: got .*'score'\], expected"):
        search.search("toy", tmp_path)
    assert path.read_text() == "study,trial,score\nsearch_toy,0,0.5\n"


def test_a_table_of_something_else_is_left_alone(brief, tmp_path):
    path = tmp_path / "search_toy.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="something else"):
        search.search("toy", tmp_path)
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("name", BRIEFS)
def test_what_was_found_is_the_best_of_its_table(name):
    table = pd.read_csv(results.RESULTS / f"search_{name}.csv")
    assert Design.from_json(references.FOUND[name]) == search.best(name, table)


@pytest.mark.parametrize("name", BRIEFS)
def test_the_committed_tables_are_of_this_space(name):
    rows = results.read(results.RESULTS / f"search_{name}.csv")
    assert len(rows) >= 5
    assert [*rows[0]] == search._columns(BRIEFS[name])
    for row in rows:
        design, brief = Design.from_json(row["design"]), BRIEFS[name]
        within = design.strategy in search.promised(brief)
        assert within
        assert design.secure == search.hidden(brief)
        if row["score"]:
            missed = [b for b, limit in brief.limits.items() if float(row[b]) > limit]
            assert row["missed"].split() == missed
