"""The compression lab without a browser: its picture, its controls, its buttons."""

from dataclasses import replace

import pandas as pd
import pytest

from fedlab_helpers.compression.registry import KEEPS, WRITES
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels import CompressionLab
from fedlab_helpers.lessons.panels.compression_lab import AMOUNTS
from fedlab_helpers.lessons.runs import Run
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.recipe import Result
from fedlab_helpers.studies import results
from fedlab_helpers.studies.study import task as built_in

USUAL = CompressionLab.usual
SHORT = replace(USUAL, rounds=2)


@pytest.fixture
def panel(small_task):
    made = CompressionLab(small_task)
    made.form.rounds.value = 2
    return made


def test_every_kind_has_a_word_and_the_usual_amount_is_offered():
    assert {*KEEPS, *WRITES} <= ENGLISH.keys()
    assert {keep for keep, kept in KEEPS.items() if kept.usual is not None} == AMOUNTS.keys()
    assert all(KEEPS[keep].usual in amounts for keep, amounts in AMOUNTS.items())


def test_a_run_keeps_its_look_as_others_come():
    sent = ((0.6, 100, 300), (0.7, 150, 600))
    results = tuple(
        Result(i, {"accuracy": score}, up, dense_bytes_up=dense)
        for i, (score, up, dense) in enumerate(sent, 1)
    )
    goals = [{"factor": 10.0, "value": 0.75}]
    first, second = Run(1, SHORT, results), Run(2, replace(SHORT, keep="topk"), results[:1])
    one, two = (plots.codecs(runs, goals).axes[0].lines[2] for runs in ([first], [first, second]))
    assert one.get_color() == two.get_color()
    assert one.get_marker() == two.get_marker()
    assert one.get_xdata().tolist() == [4.0]
    assert one.get_ydata().tolist() == [0.7]
    for runs in ([], [Run(1, SHORT)], [Run(1, SHORT, (Result(0, {"accuracy": 0.3}),))]):
        assert plots.codecs(runs)._repr_png_()[:4] == b"\x89PNG"


def test_no_accuracy_is_outside_of_the_picture():
    results = tuple(Result(1, {"accuracy": score}, 1, dense_bytes_up=9) for score in (0.2, 0.97))
    low, high = plots.codecs([Run(1, SHORT, results)]).axes[0].get_ylim()
    assert low <= 0.2
    assert high >= 0.97


# The panel


def about(panel, name):
    return panel.form._places[name].children[1].value


def test_the_panel_opens_as_usual_and_each_kind_brings_its_amounts(panel):
    assert panel._still()._repr_png_()[:4] == b"\x89PNG"
    assert panel.recipe == replace(SHORT, squeeze=None)
    panel.form.squeeze.value = True
    assert panel.recipe == SHORT
    for keep in KEEPS:
        panel.form.keep.value = keep
        assert panel.recipe == replace(SHORT, keep=keep)
        assert panel.form.amount.disabled == (keep not in AMOUNTS)
        assert about(panel, "keep") == ENGLISH[f"{keep}_help"]
    panel.form.keep.value = "lowrank"
    panel.form.amount.value = 4
    assert panel.recipe.amount == 4


def test_momentum_is_offered_where_it_means_something(panel):
    form = panel.form
    assert form.momentum.disabled
    form.keep.value = "topk"
    assert form.momentum.disabled
    form.feedback.value = True
    assert not form.momentum.disabled
    form.momentum.value = True
    assert panel.recipe.momentum > 0
    form.keep.value = "lowrank"
    assert form.momentum.disabled
    assert panel.recipe.momentum == 0.0
    assert not form.feedback.disabled
    form.write.value = "ternary"
    assert form.feedback.disabled
    assert panel.recipe.feedback is False
    assert "need no feedback" in about(panel, "feedback")
    form.write.value, form.keep.value = "float32", "sketch"
    assert form.feedback.disabled


def test_goals_are_those_of_the_study_after_as_many_rounds(small_task):
    assert CompressionLab(small_task).board.panes[0]["marks"] == []
    (pane,) = CompressionLab(built_in()).board.panes
    table = pd.read_csv(results.RESULTS / "compression.csv")
    there = table[(table["round"] == USUAL.rounds) & (table["partition"] == "iid")]
    there = there[(there["downlink"] == "whole") & (there["codec"] == "ternary, zstd")]
    (mark,) = [mark for mark in pane["marks"] if mark["name"] == "ternary, zstd"]
    assert mark["value"] == pytest.approx(there["validation_accuracy"].mean())
    assert mark["factor"] == pytest.approx((there["dense_bytes_up"] / there["bytes_up"]).mean())
    lossless, allowed = (level["value"] for level in pane["levels"])
    assert lossless - allowed == pytest.approx(0.01)


def test_before_anything_is_sent_no_factor_is_told(panel):
    untrained, trained = Result(0, {"accuracy": 0.3}), Result(1, {"accuracy": 0.4}, 10, 0, 50)
    assert "begins" in panel._state(Run(1, SHORT, (untrained,)))
    assert "round 1 of 2, 5 times fewer" in panel._state(Run(1, SHORT, (untrained, trained)))


def test_the_axis_leaves_room_to_codecs_that_lose_little():
    (pane,) = CompressionLab(built_in()).board.panes
    whole = pane["levels"][0]["value"]
    assert pane["lowest"] == pytest.approx(whole - 0.06)
    assert {"lossless", "top 1%, error feedback"} & {mark["name"] for mark in pane["marks"]}
    assert "compression.csv" in pane["about"]
