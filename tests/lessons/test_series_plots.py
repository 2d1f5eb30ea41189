"""Figures of series and of ways to learn show the numbers that they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.plots import series
from fedlab_helpers.lessons.words import say


def test_a_gap_stays_open_and_lines_differ_without_colour():
    times = pd.date_range("2014-02-03", periods=5, freq="5min")
    own = pd.Series([100.0, 110, np.nan, 130, 140], times)
    (axes,) = plots.over_time({"Ada": own, "Ben": own + 50}, "glucose (mg/dL)").axes
    ada, ben = axes.lines
    np.testing.assert_array_equal(ada.get_ydata(), own)
    np.testing.assert_array_equal(ben.get_ydata(), own + 50)
    assert ada.get_linestyle() != ben.get_linestyle()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("", "glucose (mg/dL)")
    hours = pd.Index(np.arange(5.0), name="hours")
    (other,) = plots.over_time({"Ada": own.set_axis(hours)}, "glucose (mg/dL)").axes
    assert other.get_xlabel() == "hours"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Ada", "Ben"]
    assert not axes.collections


def test_the_ground_is_marked_where_it_is_said():
    times = pd.date_range("2015-04-01", periods=6, freq="10min")
    values, mark = pd.Series(range(6), times), pd.Series([0, 1, 1, 0, 0, 0], times).astype(bool)
    (axes,) = plots.over_time({"R80711": values}, "kW", mark).axes
    (ground,) = axes.collections
    (path,) = ground.get_paths()
    days = np.asarray(pd.to_datetime(times[[1, 2]]).to_numpy())
    x = axes.convert_xunits(days)
    assert (path.vertices[:, 0].min(), path.vertices[:, 0].max()) == pytest.approx(tuple(x))
    assert set(path.vertices[:, 1]) == {0, 1}  # from the bottom to the top of the axes


def test_a_power_curve_lies_over_its_readings():
    (axes,) = plots.power([3.0, 8.0, 12.0], [50.0, 700.0, 1900.0], {3: 40, 8: 720, 12: 1950}).axes
    dots, curve = axes.lines
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([3, 8, 12], [50, 700, 1900])
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([3, 8, 12], [40, 720, 1950])
    assert dots.get_linestyle() == "None"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("wind (m/s)", "power (kW)")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["power curve"]


def ways(scale=1.0):
    rows = [("alone", "own_only", 0.7), ("alone", "own_only", 0.8), ("federated", "joint", 0.9)]
    rows += [("federated", "joint", 0.8), ("as now", "nobody", 0.6)]
    table = pd.DataFrame(rows, columns=["way", "side", "score"])
    return table.assign(score=table["score"] * scale)


@pytest.mark.parametrize(
    ("higher", "order"),
    [(True, ["federated", "alone", "as now"]), (False, ["as now", "alone", "federated"])],
)
def test_the_best_way_is_on_top_each_seed_a_dot_and_the_mean_a_line(higher, order):
    (axes,) = plots.ways(ways(), "AUC", higher).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == order
    bottom, top = axes.get_ylim()
    assert top < bottom  # row 0 is the upper one
    means = {"federated": 0.85, "alone": 0.75, "as now": 0.6}
    scores = {"federated": [0.9, 0.8], "alone": [0.7, 0.8], "as now": [0.6]}
    lines = iter(axes.lines)
    for row, way in enumerate(order):
        mean, dots = next(lines), next(lines)
        assert list(mean.get_xdata()) == pytest.approx([means[way]] * 2)
        assert list(dots.get_xdata()) == scores[way]
        assert set(dots.get_ydata()) == {row}
        assert np.mean(mean.get_ydata()) == pytest.approx(row)
    assert [text.get_text() for text in axes.texts] == [f"{means[way]:.3f}" for way in order]
    assert axes.get_xlabel() == "AUC"


def test_the_colour_says_whose_data_is_learnt_from_and_so_does_the_legend():
    (axes,) = plots.ways(ways(), "AUC", True).axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    shown = [series.SIDES[side] for side in ("joint", "own_only", "nobody")]
    assert [to_hex(line.get_color()) for line in dots[:3]] == [to_hex(own) for own in shown]
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert told == [say(f"side_{side}") for side in ("nobody", "own_only", "joint")]
    assert len(set(series.SIDES.values())) == 4


def test_larger_scores_are_told_with_fewer_digits():
    (axes,) = plots.ways(ways(100.0), "error (kW)", False).axes
    assert [text.get_text() for text in axes.texts] == ["60.0", "75.0", "85.0"]
