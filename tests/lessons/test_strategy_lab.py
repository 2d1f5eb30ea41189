"""The strategy lab without a browser: its controls are set, its buttons pressed by calls."""

import html

import pandas as pd
import pytest

from fedlab_helpers.lessons.panels import StrategyLab, lab
from fedlab_helpers.lessons.runs import compare
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.recipe import STRATEGIES, Recipe
from fedlab_helpers.studies.study import task as built_in


@pytest.fixture
def panel(small_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = StrategyLab(small_task)
    set_to(made, partition="iid", clients=6, cohort=4, rounds=2)
    yield made
    made.close()
    made.wait(60)
    assert not made._busy


def set_to(panel, **values):
    for name, value in values.items():
        panel.form.controls[name].value = value


def about(panel, name):
    """Return what is said below a control."""
    return panel.form._places[name].children[1].value


def said(panel):
    return panel.board.text


def shown(panel):
    """Return the names and states of the runs in the table."""
    return [(run.name, run.state) for run in panel.comparison.runs]


def race(panel):
    panel.run.click()
    panel.wait(60)


# The form


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_brings_its_own_sliders_at_their_defaults(name, small_task):
    lab = StrategyLab(small_task)
    set_to(lab, strategy=name, rounds=15)
    assert list(lab.parameters) == [parameter.name for parameter in STRATEGIES[name].parameters]
    assert lab.recipe == Recipe(name)
    assert lab.recipe.new_strategy() == Recipe(name).new_strategy()  # a count is a whole number
    assert STRATEGIES[name].sentence.replace("`", "") == html.unescape(about(lab, "strategy"))
    for control in lab.parameters.values():
        assert control.description.startswith("its ")
        assert control._dom_classes[0].startswith("fl-parameter-")


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_number_of_a_strategy_is_explained_below_it(name, small_task):
    lab = StrategyLab(small_task)
    set_to(lab, strategy=name)
    for place, parameter in zip(
        lab.form.parameters.children, STRATEGIES[name].parameters, strict=True
    ):
        said = place.children[1].value
        assert said == html.escape(ENGLISH[f"{name}_{parameter.name}_help"])
    assert "`" not in about(lab, "strategy")


def test_every_control_moves_its_setting(small_task):
    lab = StrategyLab(small_task)
    assert lab.recipe == Recipe(rounds=12)
    moved = {
        "strategy": "fedavgm", "server_rate": 0.5, "optimizer": "sgd", "lr": 0.5, "epochs": 3,
        "rounds": 8, "seed": 5, "partition": "mixture", "alpha": 0.1, "clients": 30, "cohort": 7,
        "attackers": 0.2, "attack": "noise",
    }  # fmt: skip
    for name, value in moved.items():
        control = lab.form.controls[name]
        control.value = value
        assert control.description
        assert control._dom_classes[0] == "fl-" + name.replace("_", "-")
    lab.parameters["beta"].value = 0.7
    recipe = Recipe(parameters={"beta": 0.7}, **moved)
    assert lab.recipe == recipe
    other = StrategyLab(small_task)
    other._set(recipe)
    assert other.recipe == recipe


def test_what_does_not_apply_is_off_and_says_why(small_task):
    lab = StrategyLab(small_task)
    for name, partner, without, needed, why in (
        ("server_rate", "strategy", "feddyn", "fedadam", "FedDyn has no server rate"),
        ("alpha", "partition", "iid", "mixture", "at random (IID)” has no alpha"),
        ("attack", "attackers", 0.0, 0.2, "no attackers"),
    ):
        control = lab.form.controls[name]
        set_to(lab, **{partner: without})
        assert control.disabled
        assert why in about(lab, name)
        set_to(lab, **{partner: needed})
        assert not control.disabled
        assert why not in about(lab, name)


# The panel


def test_the_panel_opens_with_what_it_was_given(small_task):
    made = compare([Recipe(partition="iid", clients=6, cohort=4, rounds=1)], small_task)
    panel = StrategyLab(small_task, made)
    (run,) = panel.board.runs
    assert run["name"] == "1 FedAvg"
    assert run["points"]["round"] == [0.0, 1.0]
    assert panel._still()._repr_png_()[:4] == b"\x89PNG"


def test_what_was_measured_on_other_reviews_is_not_shown(small_task):
    levels = [StrategyLab(task).board.panes[0]["levels"] for task in (small_task, built_in())]
    assert levels[0] == []
    assert [level["name"] for level in levels[1]] == ["centralised", "majority class"]


def test_values_are_those_of_the_moment_of_the_click(panel):
    panel.run.click()
    set_to(panel, strategy="median", rounds=50)
    panel.wait(60)
    assert shown(panel) == [("1 FedAvg", "finished")]
    assert panel.comparison.runs[0].last.round == 2


def test_settings_that_are_lined_up_race_together(panel, monkeypatch):
    raced = []
    real = lab.race
    monkeypatch.setattr(
        lab,
        "race",
        lambda recipes, *rest: raced.append(list(recipes)) or real(recipes, *rest),
    )
    assert panel.run.description == "Run FedAvg"
    for name in ("fedavg", "median", "krum", "median", "fedprox"):  # the second median takes it out
        set_to(panel, strategy=name)
        if name == "krum":
            assert "larger cohort" in panel.note.value
            assert panel.line_up.disabled
        panel.line_up.click()
    chips = [chip.description for chip in panel.chips.children[1:]]
    assert chips == ["FedAvg ×", "FedProx (mu=0.0001) ×"]
    assert panel.run.description == "Run 2 lined up"
    assert panel.line_up.description == "Take out"
    panel.chips.children[2].click()
    assert (panel.run.description, panel.line_up.description) == ("Run FedAvg", "Line up")
    panel.line_up.click()
    race(panel)
    assert [[recipe.strategy for recipe in recipes] for recipes in raced] == [["fedavg", "fedprox"]]
    assert panel.lined_up == []
    assert len(panel.chips.children) == 0
    assert panel.run.description == "Run FedProx (mu=0.0001)"


def test_a_run_made_before_comes_back_without_training(panel, monkeypatch):
    race(panel)
    monkeypatch.setattr(lab, "race", None)
    panel._obey({"do": "drop", "key": "1"})
    assert shown(panel) == []
    panel.run.click()
    assert shown(panel) == [("1 FedAvg", "finished")]
    assert "shown at once: 1 FedAvg" in said(panel)


def test_a_bad_combination_is_explained_and_not_run(panel):
    set_to(panel, cohort=7)
    assert "at most all of them" in panel.note.value
    assert panel.run.disabled
    panel._begin()
    assert "Not run." in said(panel)
    assert shown(panel) == []
    set_to(panel, cohort=4)
    assert panel.note.value == ""
    set_to(panel, strategy="scaffold")
    assert "plain SGD" in panel.note.value
    set_to(panel, optimizer="sgd")
    assert panel.note.value == ""
    assert panel.recipe.lr == Recipe(optimizer="sgd").lr


def test_the_target_changes_the_table(panel):
    race(panel)
    (run,) = panel.comparison.runs
    best = max(result.score for result in run.results)
    assert best < 0.95
    for target in (0.95, 0.5):
        panel.target.value = target
        cell = panel.board.runs[0]["cells"]["rounds_to_target"]
        there = next((r.round for r in run.results if r.round and r.score >= target), None)
        assert cell == ([None, "–"] if there is None else [float(there), str(there)])


def test_runs_are_saved_and_what_hinders_that_is_said(panel, tmp_path):
    panel.save.click()
    assert "no run to save" in panel.kept.value
    race(panel)
    panel.save.click()
    assert panel.kept.value == "1 run saved as strategy_lab.csv."
    assert len(pd.read_csv(tmp_path / "strategy_lab.csv")) == 3
    race(panel)
    panel.save.click()  # once more, over one's own
    assert panel.kept.value == "1 run saved as strategy_lab.csv."
    (tmp_path / "mine.csv").write_text("mine")
    panel.file.value = "mine.csv"
    panel.save.click()
    assert "saved as mine_2.csv: mine.csv was there before, and stays" in panel.kept.value
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert len(pd.read_csv(tmp_path / "mine_2.csv")) == 3
    panel.file.value = "nowhere/runs.csv"
    panel.save.click()
    assert "There is no folder nowhere" in panel.kept.value
    for name in ("half an emoji \ud83d.csv", "null \0.csv"):
        panel.file.value = "runs.csv"
        panel.save.click()
        panel.file.value = name
        panel.save.click()
        assert "went wrong" in panel.kept.value
