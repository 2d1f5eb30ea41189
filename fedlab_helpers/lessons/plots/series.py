"""Series over time, and ways to learn from other people's."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fedlab_helpers.lessons.plots.runs import COLOURS, LINES, Picture, figure, literal
from fedlab_helpers.lessons.words import say

# Whose data a way learns from, and its colour.
SIDES = {"nobody": "#777777", "one_place": COLOURS[0], "own_only": COLOURS[5], "joint": COLOURS[1]}


def over_time(
    series: Mapping[str, pd.Series], label: str, mark: pd.Series | None = None
) -> Picture:
    """Return series over time, one line each, gaps left open.

    Args:
        series: name -> values over an index of times, or of numbers that its name explains.
        label: of the values.
        mark: True where the ground is to be marked, over the same times.
    """
    picture, axes = figure(7, 2.8)
    for place, (name, values) in enumerate(series.items()):
        style = {"color": COLOURS[place % 6], "linestyle": LINES[place % 4], "linewidth": 1.2}
        axes.plot(values.index, values, label=literal(name), **style)
    if mark is not None:
        ground = {"transform": axes.get_xaxis_transform(), "color": COLOURS[1], "alpha": 0.2}
        axes.fill_between(mark.index, 0, 1, where=mark, **ground)
    times = next(iter(series.values())).index
    axes.set(xlabel=literal(times.name or ""), ylabel=literal(label))
    if isinstance(times, pd.DatetimeIndex):
        axes.tick_params("x", labelrotation=20)
    axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return picture


def power(wind: Sequence[float], power: Sequence[float], curve: Mapping[float, float]) -> Picture:
    """Return the power, in kW, at each wind, in m/s, as dots, and a power curve over them: wind ->
    power."""
    picture, axes = figure(5.4, 3)
    axes.plot(wind, power, ",", color=COLOURS[4], alpha=0.5, rasterized=True)
    axes.plot(list(curve), list(curve.values()), color=COLOURS[1], label=say("power_curve"))
    axes.set(xlabel=say("wind"), ylabel=say("power"))
    axes.legend(frameon=False, fontsize="small")
    return picture


def ways(table: pd.DataFrame, label: str, higher_is_better: bool) -> Picture:
    """Return what each way of learning scores: a dot for each seed, a line at the mean, the best on
    top; the colour says whose data it learns from.

    Args:
        table: a row for each run: way, side (of `SIDES`), score.
        label: of the score.
        higher_is_better: of the score.
    """
    means = table.groupby("way")["score"].mean().sort_values(ascending=not higher_is_better)
    picture, axes = figure(6.4, 0.9 + 0.28 * len(means))
    sides = table.drop_duplicates("way").set_index("way")["side"]
    for row, way in enumerate(means.index):
        scores, colour = table.loc[table["way"] == way, "score"], SIDES[sides[way]]
        axes.plot([means[way]] * 2, [row - 0.32, row + 0.32], color=colour, linewidth=2)
        axes.plot(scores, np.full(len(scores), row), "o", color=colour, markersize=4, alpha=0.7)
        told = f"{means[way]:.{3 if means.abs().max() < 1 else 1}f}"
        axes.annotate(told, (1.01, row), xycoords=("axes fraction", "data"), va="center")
    axes.set_yticks(range(len(means)), map(literal, means.index))
    axes.invert_yaxis()
    axes.set_xlabel(literal(label))
    for side in [side for side in SIDES if side in set(sides)]:
        axes.plot([], [], "o", color=SIDES[side], label=say(f"side_{side}"))
    above = {"loc": "lower center", "bbox_to_anchor": (0.4, 1), "ncols": 4}
    axes.legend(frameon=False, fontsize="small", **above)
    return picture
