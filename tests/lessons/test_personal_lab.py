"""The personal lab without a browser: its controls are set, its buttons pressed by calls."""

import math
import threading
from dataclasses import replace

import pytest

from fedlab_helpers.lessons.panels import PersonalLab, StrategyLab, lab
from fedlab_helpers.lessons.panels.personal_lab import NUMBERS
from fedlab_helpers.lessons.runs import NUMBER_OF, race
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.personal.methods import METHODS

SHORT = {"partition": "by_domain", "rounds": 4}
USUAL = PersonalLab.usual


@pytest.fixture
def panel(small_task):
    made = PersonalLab(small_task)
    made.usual = replace(USUAL, clients=10)  # the small task has few reviews
    set_to(made, **SHORT, method="fedper")
    yield made
    made.close()
    made.wait(60)
    assert not made._busy


def set_to(panel, **values):
    for name, value in values.items():
        getattr(panel, name).value = value


def run(panel):
    panel.run.click()
    panel.wait(60)


def finished(panel):
    return [each.recipe for each in panel.comparison.runs if each.state == "finished"]


def test_every_number_has_values_the_tries_among_them():
    for name, method in METHODS.items():
        assert (name in NUMBER_OF) == bool(method.tries), name
        assert set(method.tries) <= set(NUMBERS.get(NUMBER_OF.get(name), ())), name
        assert {name, *NUMBER_OF.values()} <= ENGLISH.keys()


def test_the_panel_opens_with_an_empty_picture(small_task):
    panel = PersonalLab(small_task)
    assert panel.image.value[:4] == b"\x89PNG"
    assert panel.recipe == USUAL
    assert "Choose a method" in panel.status.value


def test_each_method_brings_its_number(small_task):
    panel = PersonalLab(small_task)
    for name in METHODS:
        panel.method.value = name
        assert panel.recipe == replace(USUAL, method=name, number=None)
        assert panel.number.disabled == (name not in NUMBER_OF)
    panel.method.value = "ditto"
    panel.number.value = math.inf
    assert panel.recipe.number == math.inf


def test_a_run_is_drawn_said_and_kept(panel):
    before = panel.image.value
    run(panel)
    assert panel.image.value != before
    assert "points on average" in panel.status.value
    assert finished(panel) == [replace(USUAL, method="fedper", clients=10, **SHORT)]
    assert "FedPer, own head" in panel.table.value
    assert not panel.run.disabled
    set_to(panel, method="tune_head")
    run(panel)
    assert len(finished(panel)) == 2
    assert "fine-tuned head" in panel.table.value


def test_a_run_made_before_is_shown_at_once(panel, monkeypatch):
    run(panel)
    first = panel.image.value
    set_to(panel, method="shared")
    run(panel)
    monkeypatch.setattr(lab, "race", None)
    set_to(panel, method="fedper")
    panel.run.click()
    assert "shown at once: FedPer" in panel.status.value
    assert panel.image.value == first


def until_bars_come(panel, monkeypatch):
    """Press Run, and return once the first bars are there; the run waits for the event."""
    began, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        for recipe, news in race(*arguments):
            yield recipe, news
            began.set()
            assert go_on.wait(60)

    monkeypatch.setattr(lab, "race", slow)
    panel.run.click()
    assert began.wait(60)
    return go_on


def test_stop_ends_a_run_and_nothing_of_it_is_kept(panel, monkeypatch):
    go_on = until_bars_come(panel, monkeypatch)
    assert panel.run.disabled
    panel.run.click()
    assert "press Stop first" in panel.status.value
    panel.stop.click()
    go_on.set()
    panel.wait(60)
    assert "stopped" in panel.status.value
    assert finished(panel) == []
    assert panel.table.value == ""


def test_a_run_here_ends_the_race_of_another_kind_of_panel(panel, small_task, monkeypatch):
    other = StrategyLab(small_task)
    for name, value in {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 100}.items():
        getattr(other.form, name).value = value
    other.run.click()
    run(panel)
    other.wait(60)
    assert [each.state for each in other.comparison.runs] == ["stopped"]
    assert len(finished(panel)) == 1


@pytest.mark.parametrize("broken", [(lab, "race"), (PersonalLab, "_picture")], ids=["run", "plot"])
def test_an_error_is_shown_and_run_works_again(panel, monkeypatch, broken):
    def fail(*arguments):
        raise RuntimeError("no luck <today>")

    with monkeypatch.context() as patch:
        patch.setattr(*broken, fail)
        run(panel)
        assert "RuntimeError: no luck &lt;today&gt;" in panel.status.value
        assert not panel.run.disabled
    run(panel)
    assert len(finished(panel)) == 1
