"""Figures of tables: each seed is a dot, what loses less stands higher, sums are sums."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from fedlab_helpers.lessons import plots


def test_what_loses_less_stands_higher():
    rows = pd.DataFrame({"factor": [100, 3], "lost": [0.5, 0.1], "±": [0.1, 2.2]}, ["x", "y"])
    (axes,) = plots.frontier({"a": rows}).axes
    low, high = axes.get_ylim()
    assert low > 2.3
    assert high < -2.1  # no error bar is cut off
    assert axes.lines[0].get_xdata().tolist() == [3, 100]
    assert [note.get_text() for note in axes.texts] == ["y", "x"]


def test_every_point_has_its_label_and_none_lies_on_another():
    near = {"factor": [10, 10.1, 10.2], "lost": [0.5, 0.5, 0.51], "±": [0.1] * 3}
    families = {"a": pd.DataFrame(near, ["one", "two", "three"]), "b": pd.DataFrame(near)}
    families["b"]["label"] = ["four", "five", "six"]
    picture = plots.frontier(families)
    picture.draw_without_rendering()
    notes = picture.axes[0].texts
    assert [note.get_text() for note in notes] == "one two three four five six".split()
    boxes = [note.get_window_extent() for note in notes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    colours = {note.get_color() for note in notes}
    assert len(colours) == 2


def test_labels_of_crowded_families_are_apart_and_empty_ones_are_not_written():
    spread = {"lost": 0.0, "±": [0.3, 0.7, 0.4]}
    families = {
        "bits": pd.DataFrame({"factor": [3.6, 6.5, 11], "label": ["8 bits", "4 bits", "2 bits"]}),
        "rank": pd.DataFrame(
            {"factor": [1.9, 3.4, 5.8], "label": ["rank 32", "rank 16", "rank 8"]}
        ),
        "none": pd.DataFrame({"factor": [4.05, 9, 18], "label": ["50%", "80%", ""]}),
    }
    families = {name: rows.assign(**spread) for name, rows in families.items()}
    families["none"].loc[1:, "lost"] = [1.0, 3.3]
    families["bits"].loc[2, "lost"] = 2.0
    picture = plots.frontier(families)
    picture.draw_without_rendering()
    (axes,) = picture.axes
    assert len(axes.texts) == 8
    boxes = [note.get_window_extent() for note in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_factor_to_reach_is_an_upright_line():
    rows = pd.DataFrame({"factor": [3, 30], "lost": [0.1, 0.5], "±": [0.1, 0.1]}, ["x", "y"])
    (axes,) = plots.frontier({"a": rows}, goal=20).axes
    assert [20, 20] in [list(line.get_xdata()) for line in axes.lines]


def test_what_is_slow_has_a_large_bubble_and_hides_no_other():
    table = pd.DataFrame(
        {
            "kilobytes": [40, 3000],
            "lost": [0.5, 0.0],
            "±": [0.1, 0.0],
            "microseconds": [50.0, 900.0],
        },
        index=["small", "large"],
    )
    (axes,) = plots.size_speed(table).axes
    bubbles = [each for each in axes.collections if isinstance(each, PathCollection)]
    assert [float(each.get_sizes()[0]) for each in bubbles] == [3600.0, 200.0]
    assert [each.get_text() for each in axes.texts] == ["large: 900 µs", "small: 50 µs"]
    assert [each.xy for each in axes.texts] == [(3000, 0.0), (40, 0.5)]
    low, high = axes.get_ylim()
    assert low > high


def test_growth_shows_each_sweep_with_what_its_rounds_took_and_held():
    names = ["clients", "cohort", "words", "reviews_a_client"]
    names += ["seconds_a_round", "least", "most", "peak_mib"]
    rows = [
        (1000, 100, 9, "12 to 28", 2.0, 1.5, 2.75, 50.0),
        (100, 100, 9, "12 to 28", 1.0, 0.5, 1.25, 40.0),
        (20, 10, 9, "320", 3.0, 3.0, 3.0, 60.0),
        (20, 10, 1000, "320", 4.0, 3.0, 7.0, 80.0),
    ]
    picture = plots.growth(pd.DataFrame(rows, columns=names))
    left, right, *memory = picture.axes
    seconds = [axes.containers[0].lines[0].get_xydata().tolist() for axes in (left, right)]
    assert seconds == [[[100, 1.0], [1000, 2.0]], [[9, 3.0], [1000, 4.0]]]
    (bars,) = left.containers[0].lines[2]
    assert [bar[:, 1].tolist() for bar in bars.get_segments()] == [[0.5, 1.25], [1.5, 2.75]]
    held = [axes.lines[0].get_xydata().tolist() for axes in memory]
    assert held == [[[100, 40.0], [1000, 50.0]], [[9, 60.0], [1000, 80.0]]]
    assert left.get_xscale() == right.get_xscale() == "log"
    assert left.get_xlabel() == "clients, 100 of them in a round"
    assert right.get_xlabel() == "words, 20 clients, 10 in a round"
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "peak of memory (MiB)",
        "seconds a round",
    ]


def test_energy_is_summed_up_in_percent():
    picture = plots.energy({"a": np.array([3.0, 1.0, 0.0, 0.0])}, "singular_place")
    (line,) = picture.axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    assert line.get_ydata().tolist() == [75, 100, 100, 100]
    (line,) = plots.energy({"a": np.array([3.0, 1.0, 0.0, 0.0])}, "values_kept").axes[0].lines
    assert line.get_xdata().tolist() == [25, 50, 75, 100]


def test_gains_have_a_bar_at_the_mean_and_a_dot_for_each_seed():
    (axes,) = plots.gains({"by_domain": {"fedper": [1.0, 2.0, 6.0], "ditto": [-1.0, 0, 1]}}).axes
    assert [bar.get_width() for bar in axes.patches] == [3, 0]
    assert [list(line.get_xdata()) for line in axes.lines[1:]] == [[1.0, 2.0, 6.0], [-1.0, 0, 1]]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["FedPer, own head", "Ditto"]


def test_gains_of_several_deals_share_an_axis_and_are_sorted():
    one = {"ditto": [0.0, 0.0], "fedper": [1.0, 1.0]}
    left, right = plots.gains({"by_domain": one, "strictness": {"ditto": [-2], "fedper": [9]}}).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_xlim()[0] < -2 < 9 < left.get_xlim()[1]
    assert [bar.get_width() for bar in right.patches] == [9, -2]


def test_cold_start_has_a_line_for_each_method():
    (axes,) = plots.cold_start({"fedper": {0: 0.5, 8: 0.7}, "shared": {0: 0.6, 8: 0.6}}).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.7], [0.6, 0.6]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "8"]


def drawn(axes) -> list[tuple[list[float], float]]:
    return [(list(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines]


def test_each_seed_is_a_dot_and_the_mean_a_bar():
    panels = {
        "IID": {"FedAvg": [0.5, 0.7, 0.9], "median": [0.2]},
        "by domain": {"median": [0.4, 0.6]},
    }
    picture = plots.seed_dots(panels, "accuracy", level=0.8)
    left, right = picture.axes
    dots, bar, one, level = drawn(left)
    assert dots == ([0.5, 0.7, 0.9], 0)
    assert bar == ([pytest.approx(0.7)], 0)
    assert one == ([0.2], 1)  # and no bar over it
    assert level[0] == [0.8, 0.8]
    assert [label.get_text() for label in left.get_yticklabels()] == ["FedAvg", "median"]
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top
    assert drawn(right)[0] == ([0.4, 0.6], 1)  # FedAvg is not in this panel
    assert [axes.get_title() for axes in (left, right)] == ["IID", "by domain"]
    assert picture._repr_png_().startswith(b"\x89PNG")
