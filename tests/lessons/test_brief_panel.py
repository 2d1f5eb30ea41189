"""The panel of briefs: a design is composed, run, reported, examined once, and saved."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from brief_toys import entered, toy_brief
from IPython.core.formatters import format_display_data

from fedlab_helpers.lessons.panels import brief_panel
from fedlab_helpers.lessons.panels.brief_panel import BriefPanel
from fedlab_helpers.studies import results
from fedlab_helpers.studies.design import Design, problem
from fedlab_helpers.studies.references import references

PLAIN = Design("gru", 4, rounds=2, cohort=3, batch=8)
NAMED = {
    "plain": PLAIN,
    "compressed": Design("gru", 4, rounds=2, cohort=3, batch=8, keep="topk", amount=0.05,
                         write="bits8", feedback=True, device="bits8"),
    "private": Design("gru", 4, "private", {"clip": 2.0, "noise_multiplier": 3.0}, 1.0,
                      rounds=2, cohort=3, batch=8),
    "sums": Design("sums"),
}  # fmt: skip


@pytest.fixture
def panel(monkeypatch, tmp_path):
    rows = [
        {"brief": "hotels", "design": "plain", "seed": s, "score": 5.0 + s, "exam": 6.0 + s,
         "megabytes_up": 0.01, "cpu_seconds": 1.0, "device_kilobytes": 1.0, "losing": 0.1}
        for s in range(3)
    ]  # fmt: skip
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    pd.DataFrame(rows).to_csv(tmp_path / "reference_designs.csv", index=False)
    monkeypatch.setattr(brief_panel, "references", lambda name: NAMED)
    monkeypatch.setattr(BriefPanel, "_seen", {})
    monkeypatch.chdir(tmp_path)
    with entered(monkeypatch, toy_brief(name="hotels", every=2)):
        made = BriefPanel("hotels")
        yield made
        made.close()


def buttons(panel):
    return {b.description: b for b in panel.children[1].children[1:]}


def ran(panel):
    panel.run.click()
    panel.wait(60)
    return panel.board.text


def test_it_opens_with_the_plain_design_and_the_brief(panel):
    assert panel.design == PLAIN
    about = panel.children[0].value
    assert "A design for a hotel chain" in about
    assert "at most 50%" in about
    assert [*buttons(panel)] == ["plain", "compressed", "private", "model of sums"]
    assert panel.open_exam.disabled
    assert panel.stop.disabled
    assert not panel.run.disabled


@pytest.mark.parametrize("name", NAMED)
def test_a_start_sets_all_controls(panel, name):
    called = {"sums": "model of sums"}.get(name, name)
    buttons(panel)[called].click()
    assert panel.design == NAMED[name]
    buttons(panel)["plain"].click()
    assert panel.design == PLAIN


@pytest.mark.parametrize(
    "name",
    ["keyboard", "hotels", *(pytest.param(n, marks=pytest.mark.public_data)
                             for n in ("clinics", "turbines"))],
)  # fmt: skip
def test_every_button_of_a_brief_sets_its_design(name):
    made = BriefPanel(name)
    starts = {n: d for n, d in references(name).items() if n not in ("composed", "found")}
    for button, design in zip(made.children[1].children[1:], starts.values(), strict=True):
        button.click()
        own = {n: round(v, 2) for n, v in made.design.parameters}
        assert replace(made.design, parameters=()) == replace(design, parameters=())
        for number in ("clip", "noise_multiplier"):
            assert own.get(number) == dict(design.parameters).get(number)
        assert not made.run.disabled
    made.close()


def test_a_run_gives_a_report_of_it(panel):
    said = ran(panel)
    assert "budgets met" in said
    assert panel.outcomes[0].design == panel.design
    assert "Among other designs" in panel.shown.value
    assert "Designs run so far: 1" in panel.shown.value
    assert not panel.open_exam.disabled
    buttons(panel)["compressed"].click()
    ran(panel)
    assert "Designs run so far: 2" in panel.shown.value
    assert panel.outcomes[1].design.keep == "topk"


def test_the_exam_opens_once(panel):
    ran(panel)
    panel.open_exam.click()
    score = panel.seen.exam
    assert score == panel.outcomes[0].exam()
    assert panel.open_exam.disabled
    assert panel.open_exam.description == "The exam is open"
    assert "Designs run until then: 1" in panel.shown.value
    ran(panel)
    assert panel.open_exam.disabled
    panel.open_exam.click()
    panel._open_exam()
    assert panel.seen.exam == score
    assert "Designs run until then: 2" in panel.shown.value  # it is the same design
    buttons(panel)["compressed"].click()
    ran(panel)
    assert "on an earlier design" in panel.shown.value
    another = BriefPanel("hotels")
    assert another.open_exam.description == "The exam is open"
    ran(another)
    assert another.open_exam.disabled
    assert "on an earlier design" not in another.shown.value  # plain, which was examined
    another.close()


def test_the_exam_cannot_be_opened_before_a_run(panel):
    panel._open_exam()
    assert panel.seen.exam is None


def test_what_cannot_be_run_is_said_at_the_run_button(panel):
    panel.form.secure.value = True
    assert not panel.run.disabled
    panel.form.strategy.value = "median"
    assert panel.run.disabled
    assert "their mean only" in panel.note.value
    panel.form.strategy.value = "fedavg"
    assert panel.note.value == ""
    assert not panel.run.disabled


def test_controls_that_do_not_apply_are_off_and_say_why(panel):
    form = panel.form
    assert form.clip.disabled
    assert form.amount.disabled
    assert form.tuning_rate.disabled
    form.strategy.value = "private"
    assert not form.clip.disabled
    form.keep.value = "lowrank"
    assert [a for _, a in form.amount.options] == [1, 2, 4, 8]
    assert not form.amount.disabled
    form.keep.value = "topk"
    assert form.amount.options[0] == ("1%", 0.01)
    form.cell.value = "sums"
    assert form.keep.disabled
    assert panel.design == Design("sums")
    form.cell.value = "lstm"
    assert not form.keep.disabled


def test_stop_ends_a_run_without_a_report(panel):
    panel.form.rounds.value = 40
    panel.form.epochs.value = 5
    panel.run.click()
    panel.stop.click()
    panel.wait(60)
    assert "no report" in panel.board.text
    assert panel.outcomes == []
    assert panel.open_exam.disabled
    assert not panel.run.disabled
    panel.form.rounds.value = 1
    assert "budgets met" in ran(panel)


def test_a_second_press_while_it_runs_does_nothing(panel):
    panel.form.rounds.value = 20
    panel.run.click()
    thread = panel._thread
    panel._begin()
    assert panel._thread is thread
    panel.stop.click()
    panel.wait(60)


def test_an_invalid_form_has_no_button_after_a_run(panel):
    panel.run.click()
    panel.form.secure.value = True
    panel.form.strategy.value = "median"
    panel.wait(60)
    assert panel.run.disabled
    panel.form.strategy.value = "fedavg"
    assert not panel.run.disabled


def test_a_report_that_fails_leaves_the_one_before(panel, monkeypatch, tmp_path):
    ran(panel)
    shown = panel.shown.value
    (tmp_path / "reference_designs.csv").unlink()
    assert "FileNotFoundError" in ran(panel)
    assert panel.shown.value == shown
    assert len(panel.outcomes) == 2  # what the run came to is not lost


def test_an_error_is_told(panel, monkeypatch):
    def fails(*_):
        raise RuntimeError("no electricity")

    monkeypatch.setattr(brief_panel, "measure", fails)
    assert "RuntimeError: no electricity" in ran(panel)
    assert not panel.run.disabled


def test_a_report_is_saved_and_nothing_written_over(panel, tmp_path):
    panel.save.click()
    assert "run a design first" in panel.kept.value
    ran(panel)
    panel.save.click()
    assert "Saved as hotels.html" in panel.kept.value
    assert "<!doctype html>" in Path("hotels.html").read_text(encoding="utf-8")
    panel.save.click()
    assert "Saved as hotels_2.html" in panel.kept.value
    panel.file.value = "nowhere/x.html"
    panel.save.click()
    assert "no folder" in panel.kept.value
    panel.file.value = "half an emoji \ud83d.html"
    panel.save.click()
    assert "went wrong" in panel.kept.value
    panel.file.value = " "
    panel.save.click()
    assert "name" in panel.kept.value


def test_a_saved_notebook_shows_the_references(panel):
    assert panel._still().axes[0].get_xlabel().startswith("accuracy")
    data, _ = format_display_data(panel._still())
    assert "image/png" in data


def test_an_unknown_customer_is_refused():
    with pytest.raises(ValueError, match="brief: got 'bank'"):
        BriefPanel("bank")


def test_what_runs_in_the_panel_is_what_is_refused(panel):
    panel.form.cohort.value = 5
    assert problem("hotels", panel.design) is None
