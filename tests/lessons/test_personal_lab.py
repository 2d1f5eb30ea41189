"""Personal methods at the press of a button: runs, bars, and the panel without a browser."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from fedlab_helpers.lessons.plots.personal import bars_plot, cold_start, gains_plot, slopes

from fedlab_helpers.lessons.panels import PersonalLab, StrategyLab, personal_lab, personal_run
from fedlab_helpers.lessons.panels.personal_run import (
    NUMBER_OF,
    NUMBERS,
    Bars,
    Courses,
    PersonalSetup,
    play,
)
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.personal import members
from fedlab_helpers.personal.methods import METHODS

SHORT = {"partition": "by_domain", "rounds": 4}


@pytest.fixture
def few_clients(monkeypatch):
    """Six clients instead of twenty: the small task has few reviews."""
    real = members.deal
    monkeypatch.setattr(
        personal_run, "deal", lambda *a, **k: real(*a, **k, clients=10, newcomers=2)
    )


@pytest.fixture
def panel(small_task, few_clients):
    made = PersonalLab(small_task)
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


# Settings


def test_every_number_has_values_the_tries_among_them():
    for name, method in METHODS.items():
        assert (name in NUMBER_OF) == bool(method.tries), name
        assert set(method.tries) <= set(NUMBERS.get(NUMBER_OF.get(name), ())), name
        assert {name, *NUMBER_OF.values()} <= ENGLISH.keys()


def test_what_does_not_apply_is_left_out_so_that_equal_runs_are_equal():
    assert PersonalSetup("fedper", 3.0) == PersonalSetup("fedper")
    assert PersonalSetup("ditto") == PersonalSetup("ditto", 10.0)
    assert PersonalSetup("ditto", 10.0).name == "Ditto (pull 10)"
    assert PersonalSetup("ditto", math.inf).name == "Ditto (pull inf)"
    assert PersonalSetup("fedper").name == "FedPer, own head"


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="method: got 'magic'"):
        PersonalSetup("magic")
    with pytest.raises(ValueError, match="partition: got 'iid'"):
        PersonalSetup(partition="iid")
    with pytest.raises(ValueError, match="rounds: got 3, expected at least 4"):
        PersonalSetup(rounds=3)


# Runs


@pytest.mark.parametrize("method", ["shared", "tune_head", "fedper", "ifca_mixed"])
def test_bars_come_with_the_shared_model_first_and_then_client_by_client(
    method, small_task, few_clients
):
    courses = Courses(small_task)
    seen = list(play(PersonalSetup(method, **SHORT), courses))
    assert [bars.round for bars in seen[:2]] == [2, 4]
    assert not any(bars.own for bars in seen[:2])
    assert [len(bars.own) for bars in seen[2:12]] == list(range(1, 11))
    assert all(len(bars.shared) == len(bars.groups) == 10 for bars in seen)
    assert seen[-1].settled
    assert seen[-1].round == 4
    assert not any(bars.settled for bars in seen[:-1])
    if method == "shared":
        assert seen[-1].own == seen[-1].shared
    again = list(play(PersonalSetup("fedper", **SHORT), courses))
    assert again[0].own  # the shared model is not trained again


def test_bars_are_accuracies_on_validation_reviews_of_the_clients_kinds(small_task, few_clients):
    setup = PersonalSetup("shared", **SHORT)
    courses = Courses(small_task)
    last = list(play(setup, courses))[-1]
    course = courses.of(setup)
    answer = course.answer_of(course.shared[4][0])
    right = (answer(small_task.validation).argmax(1) == small_task.validation.labels).numpy()
    domains = np.array([review.domain for review in small_task.validation_reviews])
    for member, accuracy, group in zip(course.members, last.own, last.groups, strict=True):
        assert group == member.domain
        own = np.concatenate([member.train.labels, member.validation.labels])
        home = domains == member.domain
        expected = sum(
            (own == label).mean()
            * right[home & (small_task.validation.labels.numpy() == label)].mean()
            for label in np.unique(own)
        )
        assert accuracy == pytest.approx(expected)


def test_test_reviews_are_not_looked_at(small_task, few_clients):
    blind = replace(small_task, test=None, test_reviews=())
    assert list(play(PersonalSetup("fedper", **SHORT), Courses(blind)))[-1].settled


@pytest.mark.parametrize("method", ["shared", "tune", "fedper", "ifca", "per_fedavg"])
def test_a_run_can_be_stopped_and_made_again(method, small_task, few_clients):
    courses, stop = Courses(small_task), threading.Event()
    setup = PersonalSetup(method, **SHORT)
    seen = []
    for bars in play(setup, courses, stop):
        seen.append(bars)
        stop.set()
    assert len(seen) == 1
    whole = list(play(setup, courses))
    assert whole == list(play(setup, Courses(small_task)))


def test_fine_tuning_stops_between_two_clients(small_task, few_clients):
    courses, stop = Courses(small_task), threading.Event()
    seen = []
    for bars in play(PersonalSetup("tune", **SHORT), courses, stop):
        seen.append(bars)
        if len(bars.own) == 3:
            stop.set()
    assert len(seen[-1].own) == 3
    assert not seen[-1].settled


# The panel


def test_the_panel_opens_with_an_empty_picture(small_task):
    panel = PersonalLab(small_task)
    assert panel.image.value[:4] == b"\x89PNG"
    assert panel.setup == PersonalSetup()
    assert "Choose a method" in panel.status.value


def test_each_method_brings_its_number(small_task):
    panel = PersonalLab(small_task)
    for name in METHODS:
        panel.method.value = name
        assert panel.setup == PersonalSetup(name)
        assert panel.number.disabled == (name not in NUMBER_OF)
    panel.method.value = "ditto"
    panel.number.value = math.inf
    assert panel.setup.number == math.inf


def test_a_run_is_drawn_said_and_kept(panel):
    before = panel.image.value
    run(panel)
    assert panel.image.value != before
    assert "points on average" in panel.status.value
    assert list(panel.runs) == [PersonalSetup("fedper", **SHORT)]
    assert "FedPer, own head" in panel.table.value
    assert not panel.run.disabled
    set_to(panel, method="tune_head")
    run(panel)
    assert len(panel.runs) == 2
    assert "fine-tuned head" in panel.table.value


def test_a_run_made_before_is_shown_at_once(panel, monkeypatch):
    run(panel)
    first = panel.image.value
    set_to(panel, method="shared")
    run(panel)
    monkeypatch.setattr(personal_lab, "play", None)
    set_to(panel, method="fedper")
    panel.run.click()
    assert "shown at once: FedPer" in panel.status.value
    assert panel.image.value == first


def until_bars_come(panel, monkeypatch):
    """Press Run, and return once the first bars are there; the run waits for the event."""
    began, go_on = threading.Event(), threading.Event()

    def slow(setup, courses, stop):
        for bars in play(setup, courses, stop):
            yield bars
            began.set()
            assert go_on.wait(60)

    monkeypatch.setattr(personal_lab, "play", slow)
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
    assert panel.runs == {}
    assert panel.table.value == ""


def test_a_run_here_ends_the_race_of_another_kind_of_panel(panel, small_task, monkeypatch):
    other = StrategyLab(small_task)
    for name, value in {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 100}.items():
        getattr(other.form, name).value = value
    other.run.click()
    run(panel)
    other.wait(60)
    assert [each.state for each in other.comparison.runs] == ["stopped"]
    assert len(panel.runs) == 1


@pytest.mark.parametrize("broken", ["play", "bars_plot"])
def test_an_error_is_shown_and_run_works_again(panel, monkeypatch, broken):
    def fail(*arguments):
        raise RuntimeError("no luck <today>")

    with monkeypatch.context() as patch:
        patch.setattr(personal_lab, broken, fail)
        run(panel)
        assert "RuntimeError: no luck &lt;today&gt;" in panel.status.value
        assert not panel.run.disabled
    run(panel)
    assert len(panel.runs) == 1


# Pictures


def test_bars_show_who_gains_and_who_loses_beside_their_own_kind():
    bars = Bars(3, (0.8, 0.7, 0.6), (0.9, 0.6), ("hotel", "book", "hotel"))
    (axes,) = bars_plot(bars, "so far").axes
    drawn = [container[0] for container in axes.containers]  # the book first
    assert [bar.get_y() + bar.get_height() for bar in drawn] == pytest.approx([0.6, 0.9])
    assert [bar.get_hatch() for bar in drawn] == ["///", ""]
    assert [bar.get_x() + bar.get_width() / 2 for bar in drawn] == pytest.approx([0, 1])
    assert list(axes.lines[0].get_ydata()) == [0.7, 0.8, 0.6]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["book", "hotel"]
    assert axes.get_xticks().tolist() == [0, 1.5]
    assert axes.get_title() == "so far"


def test_slopes_go_from_shared_to_own_in_panes_by_group():
    panes = slopes((0.8, 0.7, 0.6), (0.9, 0.6, 0.6), ("hotel", "book", "hotel"), "who").axes
    assert [axes.get_title() for axes in panes] == ["hotel", "book"]
    drawn = [[line.get_ydata().tolist() for line in axes.lines] for axes in panes]
    assert drawn == [[[0.8, 0.9], [0.6, 0.6]], [[0.7, 0.6]]]


def test_gains_have_a_bar_at_the_mean_and_a_dot_for_each_seed():
    (axes,) = gains_plot({"by_domain": {"fedper": [1.0, 2.0, 6.0], "ditto": [-1.0, 0, 1]}}).axes
    assert [bar.get_width() for bar in axes.patches] == [3, 0]
    assert [list(line.get_xdata()) for line in axes.lines[1:]] == [[1.0, 2.0, 6.0], [-1.0, 0, 1]]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["FedPer, own head", "Ditto"]


def test_cold_start_has_a_line_for_each_method():
    (axes,) = cold_start({"fedper": {0: 0.5, 8: 0.7}, "shared": {0: 0.6, 8: 0.6}}).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.7], [0.6, 0.6]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "8"]
