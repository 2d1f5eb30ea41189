"""Compressed runs at the press of a button: settings, spots, pictures, the panel."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fedlab_helpers.lessons.plots.compression import energy, frontier, runs_plot, size_speed

from fedlab_helpers.compression import Compressed, Everything, LowRank, RandomK, Sign, TopK
from fedlab_helpers.core import wire
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.updates import Update
from fedlab_helpers.lessons.panels import CompressionLab, compression_lab
from fedlab_helpers.lessons.panels.compression_run import (
    AMOUNTS,
    WRITES,
    CompressionSetup,
    Spot,
    play,
)
from fedlab_helpers.lessons.words import ENGLISH

SHORT = CompressionSetup(rounds=2)


@pytest.fixture
def panel(small_task):
    made = CompressionLab(small_task)
    made.rounds.value = 2
    yield made
    made.close()
    made.wait(60)
    assert not made._busy


def run(panel):
    panel.run.click()
    panel.wait(60)


# Settings


def test_what_does_not_apply_is_left_out_so_that_equal_runs_are_equal():
    assert CompressionSetup("everything", 0.1) == CompressionSetup()
    assert CompressionSetup("topk", momentum=True) == CompressionSetup("topk", 0.01)
    assert CompressionSetup("lowrank", feedback=True, momentum=True).momentum is False
    assert CompressionSetup("topk", feedback=True, momentum=True).momentum is True
    assert CompressionSetup("sketch", feedback=True) == CompressionSetup("sketch")
    assert CompressionSetup(write="ternary", feedback=True).feedback is False


def test_settings_make_the_codec_that_they_name():
    assert CompressionSetup(squeeze=False).codec() == Compressed()
    topk = CompressionSetup("topk", 0.05, "signs", feedback=True, momentum=True)
    assert topk.codec().codec == Compressed(TopK(0.05), Sign(), 19)
    assert topk.codec().momentum == 0.9
    assert CompressionSetup("randomk", 0.1).codec().keep == RandomK(0.1)
    assert CompressionSetup("randomk", 0.1, feedback=True).codec().codec.keep == RandomK(
        0.1, scaled=False
    )
    assert CompressionSetup("lowrank", 2).codec().keep == LowRank(2)
    assert CompressionSetup(write="bits4", feedback=True).codec().codec.write.stochastic is False
    assert CompressionSetup(write="bits4").codec().write.stochastic is True
    for keep in AMOUNTS:
        for write in WRITES:
            for feedback in (False, True):
                CompressionSetup(keep, write=write, feedback=feedback, momentum=True).codec()
    assert CompressionSetup().codec().keep == Everything()


def test_names_say_what_is_sent():
    setup = CompressionSetup("topk", 0.05, "signs", feedback=True, momentum=True)
    assert setup.name == "the largest values (5%), its sign, Zstandard, EF, momentum"
    assert CompressionSetup("lowrank", 2, squeeze=False).name == (
        "low-rank factors (rank 2), 32 bits"
    )
    assert {*AMOUNTS, *WRITES} <= ENGLISH.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep": "best"}, r"keep: got 'best', expected one of \['everything'"),
        ({"write": "3 bits"}, "write: got '3 bits'"),
        ({"partition": "shards"}, "partition: got 'shards'"),
        ({"rounds": 0}, "rounds: got 0, expected at least 1"),
        ({"keep": "topk", "amount": 3.0}, r"amount: got 3.0, expected one of \[0.001"),
    ],
)
def test_bad_settings_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        CompressionSetup(**values)


# Runs


def test_a_spot_counts_what_was_sent(small_task):
    spots = list(play(replace(SHORT, squeeze=False), small_task))
    assert [spot.round for spot in spots] == [1, 2]
    assert [spot.updates for spot in spots] == [10, 20]
    assert 0 < spots[0].bytes_up < spots[1].bytes_up
    assert spots[1].factor == spots[1].dense_bytes_up / spots[1].bytes_up
    assert spots[1].kilobytes == spots[1].bytes_up / 20 / 1e3


def test_the_same_run_gives_the_same_spots(small_task):
    setup = replace(SHORT, keep="topk", amount=0.05, write="bits2", feedback=True)
    assert list(play(setup, small_task)) == list(play(setup, small_task))


def test_feedback_changes_what_is_learnt(small_task):
    setup = replace(SHORT, keep="topk", amount=0.01, rounds=4)
    plain, fed_back = (
        [spot.accuracy for spot in play(replace(setup, feedback=on), small_task)]
        for on in (False, True)
    )
    assert plain[0] == fed_back[0]  # nobody has anything to remember yet
    assert plain != fed_back


def test_the_dense_size_is_that_of_a_real_update(small_model):
    model = small_model()
    update = Update(3, of_model(model), {}, 57, 4, (0.6,))
    assert wire.dense_size(model) == len(wire.pack(update, wire.dense(), of_model(model)))


def test_a_run_can_be_stopped(small_task):
    stop, seen = threading.Event(), []
    for spot in play(replace(SHORT, rounds=5), small_task, stop):
        seen.append(spot)
        stop.set()
    assert len(seen) == 1


# Pictures


def test_a_run_keeps_its_look_as_others_come():
    spots = (Spot(1, 0.6, 100, 300, 10), Spot(2, 0.7, 150, 600, 20))
    one = runs_plot({SHORT: spots})
    two = runs_plot({SHORT: spots, replace(SHORT, keep="topk"): spots[:1]})
    first, again = (picture.axes[0].lines[1] for picture in (one, two))
    assert first.get_color() == again.get_color()
    assert first.get_marker() == again.get_marker()
    assert first.get_xdata().tolist() == [4.0]
    assert first.get_ydata().tolist() == [0.7]
    assert runs_plot({})._repr_png_()[:4] == b"\x89PNG"
    assert runs_plot({SHORT: ()})._repr_png_()[:4] == b"\x89PNG"


def test_what_loses_less_stands_higher():
    rows = pd.DataFrame({"factor": [100, 3], "lost": [0.5, 0.1], "spread": [0.1, 0.2]})
    (axes,) = frontier({"a": rows}).axes
    low, high = axes.get_ylim()
    assert low > high
    assert axes.lines[0].get_xdata().tolist() == [3, 100]


def test_what_is_slow_has_a_large_bubble_and_hides_no_other():
    table = pd.DataFrame(
        {"kilobytes": [40, 3000], "lost": [0.5, 0.0], "microseconds": [50.0, 900.0]},
        index=["small", "large"],
    )
    (axes,) = size_speed(table).axes
    assert [float(each.get_sizes()[0]) for each in axes.collections] == [3600.0, 200.0]
    assert [each.get_text() for each in axes.texts] == ["large: 900 µs", "small: 50 µs"]
    below, above = (each.xyann[1] for each in axes.texts)
    assert below < 0 < above
    low, high = axes.get_ylim()
    assert low > high


def test_energy_is_summed_up_in_percent():
    picture = energy({"a": np.array([3.0, 1.0, 0.0, 0.0])}, "singular_place")
    (line,) = picture.axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    assert line.get_ydata().tolist() == [75, 100, 100, 100]
    (line,) = energy({"a": np.array([3.0, 1.0, 0.0, 0.0])}, "values_kept").axes[0].lines
    assert line.get_xdata().tolist() == [25, 50, 75, 100]


# The panel


def test_the_panel_opens_with_an_empty_picture(small_task):
    panel = CompressionLab(small_task)
    assert panel.image.value[:4] == b"\x89PNG"
    assert panel.setup == CompressionSetup()
    assert "Choose what is sent" in panel.status.value


def test_each_kind_brings_its_amounts(panel):
    for keep, amounts in AMOUNTS.items():
        panel.keep.value = keep
        assert panel.setup == CompressionSetup(keep, rounds=2)
        assert panel.amount.disabled == (not amounts)
    panel.keep.value = "lowrank"
    panel.amount.value = 4
    assert panel.setup.amount == 4


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


def test_a_run_is_drawn_said_and_kept(panel):
    before = panel.image.value
    run(panel)
    assert panel.image.value != before
    assert "times fewer than dense" in panel.status.value
    assert list(panel.runs) == [SHORT]
    assert "every value" in panel.table.value
    assert not panel.run.disabled
    panel.keep.value = "topk"
    run(panel)
    assert len(panel.runs) == 2
    assert "the largest values (1%)" in panel.table.value


def test_a_run_made_before_is_shown_at_once(panel, monkeypatch):
    run(panel)
    monkeypatch.setattr(compression_lab, "play", None)
    panel.run.click()
    assert "shown at once: every value" in panel.status.value


def test_a_stopped_run_is_shown_as_far_as_it_came_and_can_be_made_again(panel, monkeypatch):
    began = threading.Event()

    def slow(setup, task, stop):
        for spot in play(setup, task, stop):
            yield spot
            began.set()
            assert stop.wait(60)

    monkeypatch.setattr(compression_lab, "play", slow)
    panel.run.click()
    assert began.wait(60)
    panel.run.click()
    assert "still running" in panel.status.value
    panel.stop.click()
    panel.wait(60)
    assert "stopped" in panel.status.value
    assert len(panel.runs[SHORT]) == 1
    monkeypatch.setattr(compression_lab, "play", play)
    run(panel)
    assert len(panel.runs[SHORT]) == 2


def test_a_run_that_breaks_is_told(panel, monkeypatch):
    def broken(setup, task, stop):
        raise RuntimeError("no wire")
        yield

    monkeypatch.setattr(compression_lab, "play", broken)
    run(panel)
    assert "RuntimeError: no wire" in panel.status.value
    assert not panel.run.disabled
