"""The strategy lab without a browser: its controls are set, its buttons pressed by calls."""

import pandas as pd
import pytest

from fedlab_helpers.lessons.panels import StrategyLab, lab
from fedlab_helpers.lessons.panels.settings_form import SettingsForm
from fedlab_helpers.lessons.runs import Comparison, compare
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
        getattr(panel.form, name).value = value


def shown(panel):
    """Return the names and states of the runs in the table."""
    return [(run.name, run.state) for run in panel.comparison.runs]


def race(panel):
    panel.run.click()
    panel.wait(60)


# The form


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_brings_its_own_sliders_at_their_defaults(name):
    form = SettingsForm()
    form.strategy.value = name
    assert list(form.parameters) == [parameter.name for parameter in STRATEGIES[name].parameters]
    assert form.recipe == Recipe(name)
    assert form.recipe.new_strategy() == Recipe(name).new_strategy()  # a count is a whole number
    for control in form.parameters.values():
        assert control.description.startswith("its ")
        assert control._dom_classes[0].startswith("fl-parameter-")


def test_every_control_moves_its_setting():
    form = SettingsForm()
    assert form.recipe == Recipe()
    moved = {
        "strategy": "fedavgm", "server_rate": 0.5, "optimizer": "sgd", "lr": 0.5, "epochs": 3,
        "rounds": 8, "seed": 5, "partition": "mixture", "alpha": 0.1, "clients": 30, "cohort": 7,
        "attackers": 0.2, "attack": "noise",
    }  # fmt: skip
    for name, value in moved.items():
        control = getattr(form, name)
        control.value = value
        assert control.description
        assert control._dom_classes[0] == "fl-" + name.replace("_", "-")
    form.parameters["beta"].value = 0.7
    assert form.recipe == Recipe(parameters={"beta": 0.7}, **moved)


def test_what_does_not_apply_is_off_and_says_so():
    form = SettingsForm()
    for name, partner, without, needed in (
        ("server_rate", "strategy", "feddyn", "fedadam"),
        ("alpha", "partition", "iid", "mixture"),
        ("attack", "attackers", 0.0, 0.2),
    ):
        control = getattr(form, name)
        getattr(form, partner).value = without
        assert control.disabled
        assert control.description.endswith("(not used)")
        getattr(form, partner).value = needed
        assert not control.disabled
        assert not control.description.endswith("(not used)")


# The panel


def test_the_panel_opens_with_a_picture_and_a_table_of_what_it_was_given(small_task):
    made = compare([Recipe(partition="iid", clients=6, cohort=4, rounds=1)], small_task)
    panel = StrategyLab(small_task, made)
    assert panel.image.value[:4] == b"\x89PNG"
    assert "1 FedAvg" in panel.table.value
    assert panel.runs.options == (("1 FedAvg", 1),)


def test_what_was_measured_on_other_reviews_is_not_shown(small_task):
    assert StrategyLab(small_task)._levels == {}
    assert StrategyLab(built_in())._levels.keys() == {"centralised", "majority class"}
    with pytest.raises(ValueError, match="made on other examples"):
        StrategyLab(small_task, Comparison(built_in()))


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
    for name in ("fedavg", "median", "krum", "median", "fedprox"):  # the second median takes it out
        set_to(panel, strategy=name)
        if name == "krum":
            assert "larger cohort" in panel.note.value
            assert panel.line_up.disabled
        panel.line_up.click()
    assert "FedAvg; FedProx (mu=0.0001)" in panel.status.value
    race(panel)
    assert [[recipe.strategy for recipe in recipes] for recipes in raced] == [["fedavg", "fedprox"]]
    assert panel.lined_up == []


def test_a_run_made_before_comes_back_without_training(panel, monkeypatch):
    race(panel)
    monkeypatch.setattr(lab, "race", None)
    panel.drop.click()
    assert shown(panel) == []
    assert "1 FedAvg" not in panel.table.value
    panel.run.click()
    assert shown(panel) == [("1 FedAvg", "finished")]
    assert "shown at once: 1 FedAvg" in panel.status.value


def test_a_bad_combination_is_explained_and_not_run(panel):
    set_to(panel, cohort=7)
    assert "at most all of them" in panel.note.value
    race(panel)
    assert "Not run." in panel.status.value
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
    panel.target.value = 0.95
    assert panel.table.value.count("–") == 2
    panel.target.value = 0.5
    assert panel.table.value.count("–") == (0 if best >= 0.5 else 2)


def test_runs_are_saved_and_what_hinders_that_is_said(panel, tmp_path):
    panel.save.click()
    assert "no run to save" in panel.status.value
    race(panel)
    panel.save.click()
    assert panel.status.value == "1 runs saved as strategy_lab.csv."
    assert len(pd.read_csv(tmp_path / "strategy_lab.csv")) == 3
    race(panel)
    panel.save.click()  # once more, over one's own
    assert panel.status.value == "1 runs saved as strategy_lab.csv."
    (tmp_path / "mine.csv").write_text("mine")
    panel.file.value = "mine.csv"
    panel.save.click()
    assert "saved as mine_2.csv: mine.csv was there before, and stays" in panel.status.value
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert len(pd.read_csv(tmp_path / "mine_2.csv")) == 3
    panel.file.value = "nowhere/runs.csv"
    panel.save.click()
    assert "Something went wrong" in panel.status.value
