"""The compression lab without a browser: its picture, its controls, its buttons."""

from dataclasses import replace

import pytest

from fedlab_helpers.compression.registry import KEEPS, WRITES
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels import CompressionLab
from fedlab_helpers.lessons.panels.compression_lab import AMOUNTS
from fedlab_helpers.lessons.runs import Run
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.recipe import Result

USUAL = CompressionLab.usual
SHORT = replace(USUAL, rounds=2)


@pytest.fixture
def panel(small_task):
    made = CompressionLab(small_task)
    made.rounds.value = 2
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
    first, second = Run(1, SHORT, results), Run(2, replace(SHORT, keep="topk"), results[:1])
    one, two = (plots.codecs(runs).axes[0].lines[1] for runs in ([first], [first, second]))
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


def test_the_panel_opens_as_usual_and_each_kind_brings_its_amounts(panel):
    assert panel.image.value[:4] == b"\x89PNG"
    assert panel.recipe == SHORT
    assert "Choose what is sent" in panel.status.value
    for keep in KEEPS:
        panel.keep.value = keep
        assert panel.recipe == replace(SHORT, keep=keep)
        assert panel.amount.disabled == (keep not in AMOUNTS)
    panel.keep.value = "lowrank"
    panel.amount.value = 4
    assert panel.recipe.amount == 4


def test_momentum_is_offered_where_it_means_something(panel):
    assert panel.momentum.disabled
    panel.keep.value = "topk"
    assert panel.momentum.disabled
    panel.feedback.value = True
    assert not panel.momentum.disabled
    panel.keep.value = "lowrank"
    assert panel.momentum.disabled
    assert not panel.feedback.disabled
    panel.write.value = "ternary"
    assert panel.feedback.disabled
    panel.write.value, panel.keep.value = "float32", "sketch"
    assert panel.feedback.disabled
