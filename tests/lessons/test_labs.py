"""What all labs share, without a browser: buttons are pressed by calls."""

import json
import re
import threading
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlab_helpers.lessons.panels import (
    CompressionLab,
    PersonalLab,
    PrivacyLab,
    StrategyLab,
    lab,
    seen,
)
from fedlab_helpers.lessons.runs import Comparison, End, problem, race
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.recipe import STRATEGIES, Recipe
from fedlab_helpers.studies import results
from fedlab_helpers.studies.study import task as built_in
from fedlab_helpers.tasks.reviews.task import DEALS

LONG = 100  # rounds of a race that a test will stop
LABS = {  # what is set, how a run is called, what it came to
    StrategyLab: (
        {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 2}, "1 FedAvg", "finished",
    ),
    CompressionLab: ({"rounds": 2, "squeeze": False}, "every value", "times fewer than dense"),
    PersonalLab: (
        {"method": "fedper", "partition": "by_domain", "rounds": 4}, "FedPer, own head",
        "points on average",
    ),
}  # fmt: skip


def set_to(panel, **values):
    for name, value in values.items():
        panel.form.controls[name].value = value


def make(kind, task):
    panel = kind(task)
    if kind is PersonalLab:
        panel.usual = replace(panel.usual, clients=10)  # the small task has few reviews
    set_to(panel, **LABS[kind][0])
    return panel


@pytest.fixture(params=LABS, ids=lambda kind: kind.__name__)
def panel(request, small_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make(request.param, small_task)
    yield made
    made.close()
    made.wait(60)
    assert not made._busy


def run(panel, button="run"):
    getattr(panel, button).click()
    panel.wait(60)


def states(panel):
    return [each.state for each in panel.comparison.runs]


def said(panel):
    return panel.board.text


def until_news_comes(panel, monkeypatch):
    """Press Run, and return once something has come; the run waits for the event."""
    began, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        for recipe, news in race(*arguments):
            yield recipe, news
            began.set()
            assert go_on.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr(lab, "race", slow)
        panel.run.click()
        assert began.wait(60)
    return go_on


def test_a_run_is_drawn_said_and_kept_and_comes_back_at_once(panel, monkeypatch):
    _, name, came_to = LABS[type(panel)]
    assert panel.board.runs == []
    run(panel)
    (drawn,) = panel.board.runs
    x, y = panel.xs[0], panel.board.panes[0]["y"]
    assert len(drawn["points"][x]) == len(drawn["points"][y]) >= 2
    assert (drawn["newest"], drawn["running"]) == (True, False)
    assert name in drawn["name"]
    assert {column["key"] for column in panel.board.columns} == drawn["cells"].keys()
    json.dumps([panel.board.runs, panel.board.panes, panel.board.bars], allow_nan=False)
    assert came_to in said(panel)
    assert (panel.run.disabled, panel.stop.disabled) == (False, True)
    assert [each.recipe for each in panel.comparison.runs] == [panel.recipe]
    monkeypatch.setattr(lab, "race", None)
    panel.run.click()
    assert "shown at once: 1 " in said(panel)
    assert panel.board.runs == [drawn]


def test_three_seeds_are_one_curve_with_a_band_and_one_row(panel):
    run(panel, "seeds")
    (drawn,) = panel.board.runs
    assert [each.recipe.seed for each in panel.comparison.runs] == [0, 1, 2]
    assert drawn["name"].endswith("(3 seeds)")
    y = panel.board.panes[0]["y"]
    bounds = zip(drawn["low"][y], drawn["points"][y], drawn["high"][y], strict=True)
    assert all(low <= mean <= high for low, mean, high in bounds)
    assert drawn["low"][y] != drawn["high"][y]
    assert said(panel).startswith("Done: 1 ")
    assert said(panel).count("(3 seeds), finished") == 1
    run(panel)  # the first of the three, at once
    assert len(panel.board.runs) == 1
    assert len(panel.comparison.runs) == 3


def test_stop_ends_a_run_that_can_be_made_anew(panel, monkeypatch):
    go_on = until_news_comes(panel, monkeypatch)
    assert (panel.run.disabled, panel.stop.disabled) == (False, False)
    for press in (panel.run.click, lambda: panel._obey({"do": "drop", "key": "1"})):
        panel.note.value = ""
        press()
        assert "press Stop first" in panel.note.value
        assert said(panel).startswith(("Starting", "Running"))  # what goes on is still told
    panel.stop.click()
    go_on.set()
    panel.wait(60)
    assert "stopped" in said(panel)
    assert states(panel) == ["stopped"]
    run(panel)
    assert states(panel) == ["finished"]


def test_an_error_is_shown_and_run_works_again(panel, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no luck <today>")

    for broken in ((lab, "race"), (type(panel), "_panes")):
        with monkeypatch.context() as patch:
            patch.setattr(*broken, fail)
            run(panel)
            assert "RuntimeError: no luck <today>" in said(panel)
            assert panel.board.status["state"] == "error"
            assert states(panel) == ["stopped"]
    run(panel)
    assert states(panel) == ["finished"]


@pytest.mark.parametrize("other", [None, PersonalLab])
def test_closing_a_panel_or_making_another_ends_the_race(small_task, monkeypatch, other):
    panel = make(StrategyLab, small_task)
    set_to(panel, rounds=LONG)
    go_on = until_news_comes(panel, monkeypatch)
    if other is None:
        panel.close()
        go_on.set()
    else:
        second = make(other, small_task)
        assert panel._stop.is_set()
        go_on.set()
        run(second)
        assert states(second) == ["finished"]
        second.close()
    panel.wait(60)
    assert states(panel) == ["stopped"]


def test_a_panel_shares_nothing_with_the_comparison_it_was_given(small_task):
    given = Comparison(small_task)
    first, second = StrategyLab(small_task, given), StrategyLab(small_task, given)
    set_to(first, **LABS[StrategyLab][0])
    run(first)
    assert (len(first.comparison.runs), second.comparison.runs, given.runs) == (1, [], [])
    with pytest.raises(ValueError, match="made on other examples"):
        StrategyLab(small_task, Comparison(built_in()))


def test_a_row_is_renamed_hidden_and_dropped(panel):
    run(panel)
    panel._obey({"do": "rename", "key": "1", "name": "1 mine"})
    assert panel.board.runs[0]["name"] == "1 mine"
    panel.board.hidden = ["1"]
    run(panel)  # what is asked for is shown
    assert panel.board.hidden == []
    panel._obey({"do": "rename", "key": "1", "name": "12 clients"})
    assert panel.board.runs[0]["name"] == "1 12 clients"
    panel._obey({"do": "rename", "key": "1", "name": ""})
    assert LABS[type(panel)][1] in panel.board.runs[0]["name"]
    panel._obey({"do": "drop", "key": "1"})
    assert panel.board.runs == []
    assert panel.comparison.runs == []


def test_runs_are_saved_by_every_lab(panel, tmp_path):
    panel.save.click()
    assert "no run to save" in panel.kept.value
    run(panel)
    for name, why in (("", "Give the file a name"), ("no/where.csv", "There is no folder no")):
        panel.file.value = name
        panel.save.click()
        assert why in panel.kept.value
    panel.file.value = f"{panel.name}.csv"
    panel.save.click()
    assert panel.kept.value == f"1 run saved as {panel.name}.csv."
    rows = len(panel.comparison.runs[0].results)
    assert len(pd.read_csv(tmp_path / f"{panel.name}.csv")) == rows


# Experiments


@pytest.mark.parametrize("kind", LABS)
def test_an_experiment_sets_the_controls_runs_and_tells_what_was_measured(
    kind, small_task, monkeypatch
):
    raced = []

    def none(recipes, *rest):
        raced.extend(recipes)
        return iter(())

    monkeypatch.setattr(lab, "race", none)
    monkeypatch.setattr(lab, "problem", lambda *_: None)  # the small task is too small
    panel = kind(small_task)
    names = [attempt.name for attempt in kind.tries]
    assert len(set(names)) == 4
    assert {text for name in names for text in (name, f"{name}_look")} <= ENGLISH.keys()
    for attempt in kind.tries:
        raced.clear()
        panel._try(attempt)
        assert ENGLISH[f"{attempt.name}_look"] in said(panel)
        panel.wait(60)
        assert raced == list(attempt.recipes)
        assert panel.recipe == attempt.recipes[-1]
        measured = attempt.seen()
        assert f" {measured.rounds} rounds" in measured.text


def test_what_was_measured_is_told_after_a_run_that_came_to_its_end(small_task, monkeypatch):
    panel = make(CompressionLab, small_task)
    attempt = lab.Try("try_ternary", (panel.recipe,), lambda: seen.Seen("So much.", rounds=20))
    panel._try(attempt)
    panel.wait(60)
    assert panel.board.status["parts"][-1] == [
        "Measured",
        "So much. Your run has 2 rounds: the order may differ.",
    ]
    run(panel)  # no experiment any more
    assert "So much" not in said(panel)


# Controls


@pytest.mark.parametrize("kind", [*LABS, PrivacyLab])
def test_every_control_has_its_words(kind, small_task):
    panel = kind(small_task)
    for name, control in panel.form.controls.items():
        about = panel.form._places[name].children[1].value
        if control.has_trait("value"):
            assert control.description
            assert about, name
            assert control.tooltip
        assert about != f"{name}_help"
    for group, _ in kind.groups:
        assert f"group_{group}" in ENGLISH


def test_no_word_carries_the_marks_of_a_docstring():
    assert not [key for key, text in ENGLISH.items() if "`" in text]


def ends(low, high):
    return st.sampled_from([low, high])


@st.composite
def settings_at_their_ends(draw):
    """Recipes that the forms can ask for, each number at one of its slider's ends."""
    entry = draw(st.sampled_from(list(STRATEGIES.values())))
    own = {each.name: draw(ends(each.low, each.high)) for each in entry.parameters}
    people = {"clients": draw(ends(1, 200)), "cohort": draw(ends(1, 50))}
    deal = {"partition": draw(st.sampled_from(list(DEALS))), "alpha": draw(ends(1e-2, 1e2))}
    attackers = draw(st.sampled_from((0.0, 0.05, 0.5)))
    return Recipe(entry.name, own, attackers=attackers, **people, **deal)


@given(recipe=settings_at_their_ends())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_refusal_is_a_sentence_for_a_reader(recipe, small_task):
    said = problem(recipe, small_task)
    assert bool(said) == bool(recipe.problem(small_task))
    assert not said or not re.search(r"\w\(|\w_\w|[`\[\]{}=]|got ", said), said


def test_a_personal_run_that_cannot_be_dealt_says_so_to_a_reader(small_task):
    recipe = replace(PersonalLab.usual, partition="domain_dirichlet")
    ((_, end),) = race([recipe], small_task)
    assert end == End("failed", problem(recipe, small_task))
    assert "cannot deal the reviews to 20 clients" in end.why


def test_what_is_wrong_is_told_with_its_numbers(small_task):
    krum = Recipe("krum", partition="iid", cohort=3)
    assert "Krum needs a cohort of at least 7 clients with these" in problem(krum, small_task)
    assert "and has 3" in problem(krum, small_task)
    few = Recipe(partition="iid", clients=2, cohort=3)
    assert "here 3 of 2" in problem(few, small_task)
    nobody = Recipe(partition="iid", clients=4, cohort=2, attackers=0.05)
    assert problem(nobody, small_task).startswith("5% of 4 clients is less than one")


def test_a_folded_group_opens(small_task):
    panel = StrategyLab(small_task)
    folded = panel.form.children[-1]
    opened, inside = folded.children[0].children[0], folded.children[1]
    opened.value = False
    assert inside.layout.display == "none"
    opened.value = True
    assert inside.layout.display is None


def test_a_stopped_experiment_tells_nothing_of_what_was_measured(small_task, monkeypatch):
    panel = make(CompressionLab, small_task)
    attempt = lab.Try("try_ternary", (panel.recipe,), lambda: seen.Seen("So much.", rounds=20))

    def stopped(recipes, *rest):
        return iter([(recipe, End("stopped")) for recipe in recipes])

    monkeypatch.setattr(lab, "race", stopped)
    panel._try(attempt)
    panel.wait(60)
    assert said(panel).startswith("Ended early: 1 ")
    assert len(panel.board.status["parts"]) == 1


def test_what_was_measured_is_that_of_the_tables():
    again = pd.concat(
        pd.read_csv(results.RESULTS / f"{name}.csv")
        for name in ("aggregation", "aggregation_again")
    )
    late = again[(again["partition"] == "dirichlet 0.1") & (again["round"] > 15)]
    means = late.groupby(["strategy", "seed"])["accuracy"].mean()
    points = 100 * (means["fedadagrad"] - means["fedavg"])
    told = seen.strategies("fedadagrad", "fedavg", partition="dirichlet 0.1").text
    assert told.startswith(f"{len(points)} seeds, last five of 20 rounds: FedAdagrad ")
    assert f"{points.mean():+.1f} points against FedAvg" in told
    assert f"({points.min():+.1f} to {points.max():+.1f};" in told


def test_a_refusal_is_said_below_what_it_is_about(small_task):
    panel = StrategyLab(small_task)
    set_to(panel, partition="iid", clients=6, cohort=4)

    def warned():
        places = panel.form._places.items()
        return {name for name, place in places if len(place.children) > 2}

    folded = panel.form.children[-1].children[0].children[0]
    folded.value = False
    assert warned() == set()
    set_to(panel, strategy="krum")
    assert warned() == {"strategy", "cohort"}
    assert "larger cohort" in panel.form._places["cohort"].children[2].value
    assert folded.value  # what it is about is not hidden
    set_to(panel, strategy="median")
    assert warned() == set()


def test_what_is_off_is_marked_for_the_page(small_task):
    panel = CompressionLab(small_task)
    assert "fl-off" in panel.form.amount._dom_classes
    set_to(panel, keep="topk")
    assert "fl-off" not in panel.form.amount._dom_classes


def test_of_several_seeds_each_is_named_while_they_race(small_task):
    panel = make(StrategyLab, small_task)
    alone, *others = [replace(panel.recipe, seed=seed) for seed in (0, 1, 2)]
    panel.comparison.begin([alone])
    panel._racers = [alone]
    assert panel._called(panel.comparison.runs[0]) == "1 FedAvg"
    panel.comparison.begin(others)
    panel._racers = [alone, *others]
    called = [panel._state(run) for run in panel.comparison.runs]
    assert called == [f"1 FedAvg, seed {seed} in round 0 of 2" for seed in (0, 1, 2)]


def test_runs_of_several_seeds_are_counted_beside_their_rows(panel):
    run(panel, "seeds")
    panel.save.click()
    said = f"3 runs, each seed counted, saved as {panel.name}.csv."
    assert panel.kept.value == said
