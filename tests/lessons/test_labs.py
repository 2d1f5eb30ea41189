"""What the three labs share, without a browser: buttons are pressed by calls."""

import threading
from dataclasses import replace

import pytest

from fedlab_helpers.lessons.panels import CompressionLab, PersonalLab, StrategyLab, lab
from fedlab_helpers.lessons.runs import race

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
        getattr(getattr(panel, "form", panel), name).value = value


def make(kind, task):
    panel = kind(task)
    if kind is PersonalLab:
        panel.usual = replace(panel.usual, clients=10)  # the small task has few reviews
    set_to(panel, **LABS[kind][0])
    return panel


@pytest.fixture(params=LABS, ids=lambda kind: kind.__name__)
def panel(request, small_task):
    made = make(request.param, small_task)
    yield made
    made.close()
    made.wait(60)
    assert not made._busy


def run(panel):
    panel.run.click()
    panel.wait(60)


def states(panel):
    return [each.state for each in panel.comparison.runs]


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
    before = panel.image.value
    run(panel)
    drawn = panel.image.value
    assert drawn != before
    assert came_to in panel.status.value
    assert name in panel.table.value
    assert (panel.run.disabled, panel.stop.disabled) == (False, True)
    assert [each.recipe for each in panel.comparison.runs] == [panel.recipe]
    monkeypatch.setattr(lab, "race", None)
    panel.run.click()
    assert f"shown at once: {name}" in panel.status.value
    assert panel.image.value == drawn


def test_stop_ends_a_run_that_can_be_made_anew(panel, monkeypatch):
    go_on = until_news_comes(panel, monkeypatch)
    assert (panel.run.disabled, panel.stop.disabled) == (True, False)
    panel.run.click()
    assert "press Stop first" in panel.status.value
    panel.stop.click()
    go_on.set()
    panel.wait(60)
    assert "stopped" in panel.status.value
    assert states(panel) == ["stopped"]
    run(panel)
    assert states(panel) == ["finished"]


def test_an_error_is_shown_and_run_works_again(panel, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no luck <today>")

    for broken in ((lab, "race"), (type(panel), "_picture")):
        with monkeypatch.context() as patch:
            patch.setattr(*broken, fail)
            run(panel)
            assert "RuntimeError: no luck &lt;today&gt;" in panel.status.value
            assert states(panel) == ["stopped"]
            assert not panel.run.disabled
    run(panel)
    assert states(panel) == ["finished"]


@pytest.mark.parametrize("other", [None, PersonalLab])
def test_closing_a_panel_or_running_another_ends_the_race(small_task, monkeypatch, other):
    panel = make(StrategyLab, small_task)
    set_to(panel, rounds=LONG)
    until_news_comes(panel, monkeypatch).set()
    if other is None:
        panel.close()
    else:
        second = make(other, small_task)
        run(second)
        assert states(second) == ["finished"]
        second.close()
    panel.wait(60)
    assert states(panel) == ["stopped"]
