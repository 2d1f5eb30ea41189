"""A report: budgets, standing and exam are those of the run and of the table, on one page."""

import base64
import math
import re
from dataclasses import replace

import pandas as pd
import pytest
from brief_toys import entered, toy_brief

from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.report import Report, reference_table, shares
from fedlab_helpers.lessons.words import ENGLISH, say
from fedlab_helpers.studies import results
from fedlab_helpers.studies.briefs import BRIEFS, BUDGETS
from fedlab_helpers.studies.design import Design, Line, measure
from fedlab_helpers.studies.references import references

DESIGN = Design("gru", 4, rounds=2, cohort=3, batch=4)


def table(**scores):
    """Return rows of reference designs with a score for each of three seeds."""
    return pd.DataFrame(
        [
            {"brief": "hotels", "design": name, "seed": seed, "score": score, "exam": score + 1,
             "megabytes_up": 0.01, "cpu_seconds": 1.0, "device_kilobytes": 1.0, "epsilon": "inf",
             "losing": 0.5 if name != "plain" or seed else 0.6}
            for name, values in scores.items()
            for seed, score in enumerate(values)
        ]
    )  # fmt: skip


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The outcome of a small design, with two reference designs in a table: one far better, one
    far worse; a third is as good."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with entered(monkeypatch, toy_brief(name="hotels")):
        outcome = measure("hotels", DESIGN)
        own = outcome.score
        found = [own + 3, own + 4, own + 5]  # one more run of it might come to as little
        rows = table(plain=[0.1, 0.2, 0.3], composed=[90, 91, 92], found=found)
        rows.to_csv(tmp_path / "reference_designs.csv", index=False)
        yield outcome


def test_references_are_in_order_with_their_spread(made):
    found = reference_table("hotels").set_index("name")
    assert [*found.index] == ["plain", "found", "composed"]  # an error: less is better
    assert found.loc["composed", "mean"] == 91
    assert found.loc["composed", "half"] == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert (found.loc["composed", "low"], found.loc["composed", "high"]) == (90, 92)
    assert [*found["within"]] == [False, True, True]
    assert found.loc["composed", "gain"] == pytest.approx(0.2 - 91)  # seed by seed: 0.9 more each
    assert found.loc["composed", "gain_half"] == pytest.approx(4.303 * 0.9 / 3**0.5, rel=1e-3)
    assert found.loc["plain", "gain"] == 0
    assert found.loc["plain", "missed"] == ["losing"]


def test_a_difference_within_the_spread_is_none(made):
    said = Report(made).standing()
    assert said == (
        "Ahead of: composed by hand. Level with: found by a search. Behind: plain*. "
        "(* misses a budget.)"
    )


def test_of_one_run_or_none_it_says_that_nothing_can_be_said(made, tmp_path):
    path = tmp_path / "reference_designs.csv"
    table(plain=[0.1], composed=[90, 91, 92]).to_csv(path, index=False)
    said = Report(made).standing()
    assert said.startswith("Ahead of: composed by hand. Run once only, so that nothing can be said")
    assert "plain*" in said
    table(plain=[0.1])[:0].to_csv(path, index=False)
    assert "There is no other design" in Report(made).body()


def test_budgets_are_told_with_limits_and_verdicts(made):
    told = Report(made).budgets().set_index("budget")
    assert [*told.index] == [say(f"budget_{name}") for name in made.brief.limits]
    losing = told.loc["share of clients that lose"]
    assert [*losing] == ["50%", "100%", "missed"]
    assert told.loc["MB up, a client", ""] == "met"
    assert Report(made).verdict.startswith("3 of 4 budgets met, accuracy ")
    assert f"{made.score:.2f}" in Report(made).verdict


def test_the_page_holds_its_figures_and_needs_nothing_else(made, tmp_path):
    path = Report(made, tried=7).save(tmp_path / "mine.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 2
    assert all(base64.b64decode(each).startswith(b"\x89PNG") for each in images)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "Not opened. Designs run so far: 7." in page
    for said in ("A design for a hotel chain", "GRU", "FedAvg", "fedlab_helpers"):
        assert said in page


def test_a_file_that_is_there_stays(made, tmp_path):
    first = tmp_path / "mine.html"
    first.write_text("mine")
    assert Report(made).save(first).name == "mine_2.html"
    assert Report(made).save(first).name == "mine_3.html"
    assert first.read_text() == "mine"
    with pytest.raises(OSError, match="nowhere"):
        Report(made).save(tmp_path / "nowhere" / "mine.html")


def test_the_exam_is_told_once_it_is_open(made):
    exam = made.exam()
    page = Report(made, 3, exam).body()
    assert f"Opened once: accuracy {exam:.2f}. Designs run until then: 3." in page
    assert "Not opened" not in page


def test_a_design_made_after_the_exam_says_so(made):
    page = Report(made, 4, before=17.5).body()
    assert "Opened once, on an earlier design: accuracy 17.50." in page
    assert "Not opened" not in page


def test_epsilon_is_said_to_be_of_one_run(made):
    protected = replace(made, brief=replace(made.brief, protects="client", stands_for=7))
    page = Report(protected, tried=5).body()
    assert "is of a client more or less." in page
    assert "the choice among 5 is not in it" in page
    assert "stands for 7" in page
    assert "choice among" not in Report(made, tried=5).body()


def test_a_page_that_cannot_be_made_leaves_no_file(made, tmp_path):
    (tmp_path / "reference_designs.csv").unlink()
    with pytest.raises(OSError, match="reference_designs"):
        Report(made).save(tmp_path / "mine.html")
    assert not (tmp_path / "mine.html").exists()


def test_of_a_model_of_sums_nothing_else_was_chosen(made):
    told = Report(replace(made, design=Design("sums"))).design()
    assert [*told.index] == ["layer"]


def test_only_what_was_chosen_is_listed(made):
    told = Report(made).design()
    assert told.loc["layer", ""] == "GRU"
    assert "pruned" not in told.index
    assert {"layer", "width", "strategy", "rounds", "cohort of a round"} <= {*told.index}


def test_shares_of_budgets():
    lines = [
        Line("epsilon", 8, 4.0), Line("epsilon", 8, math.inf),
        Line("seen", 0, 0.0), Line("seen", 0, 1.0),
    ]  # fmt: skip
    assert [shares([line])[line.budget] for line in lines] == [0.5, math.inf, 0.0, math.inf]


def test_the_plots_show_all_budgets_and_designs(made):
    picture = plots.budgets({"megabytes_up": 0.5, "epsilon": math.inf, "seen": 0.0})
    axes = picture.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "MB up, a client", "ε", "what the server sees",
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts] == ["0.5", "beyond", "0"]
    picture = plots.standing(reference_table("hotels"), "accuracy", [0.5])
    axes = picture.axes[0]
    assert next(t.get_text() for t in axes.get_yticklabels()) == "plain"
    assert axes.get_legend().get_texts()[0].get_text() == "yours"
    hollow = [len(dots.get_facecolor()) == 0 for dots in axes.collections]
    assert hollow == [True, False, False]


def test_every_word_is_there():
    keys = [f"budget_{name}" for name in BUDGETS]
    keys += [f"{part}_{name}" for name in BRIEFS for part in ("brief", "score", "unit")]
    keys += [f"brief_{name}_about" for name in BRIEFS]
    keys += [f"short_{name}" for name in BUDGETS]
    keys += [f"design_{design}" for name in BRIEFS for design in references(name)]
    keys += ["design_found", "report_unit_client", "report_unit_example"]
    assert [key for key in keys if key not in ENGLISH] == []


def test_it_is_text_where_there_is_no_notebook(made):
    assert "share of clients that lose" in repr(Report(made))
    assert Report(made)._repr_html_() == Report(made).body()
