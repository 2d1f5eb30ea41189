"""Pictures of bytes against accuracy, and of what an update is made of."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedlab_helpers.lessons.panels.compression_run import CompressionSetup, Spot
from fedlab_helpers.lessons.plots.basic import COLOURS, LINES, Picture, figure
from fedlab_helpers.lessons.words import text

WIDTH, HEIGHT = 8.6, 3.6  # inches; always the same, so that a panel does not jump
MARKERS = "os^Dvx"
_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000)


def _factor_axis(axes, label: str = "factor") -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(text(label), fontsize=9)


def runs_plot(runs: Mapping[CompressionSetup, Sequence[Spot]]) -> Picture:
    """Return the frontier as far as runs have come: each a path of spots, the last one marked.

    Args:
        runs: settings -> the spots so far, in the order in which they were begun.
    """
    picture = Picture(figsize=(WIDTH, HEIGHT))
    picture.subplots_adjust(left=0.08, right=0.5, top=0.97, bottom=0.14)
    axes = picture.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    for (setup, spots), (colour, marker, line) in zip(runs.items(), looks, strict=False):
        factors, scores = [s.factor for s in spots], [s.accuracy for s in spots]
        axes.plot(factors, scores, line, color=colour, linewidth=0.8, alpha=0.5)
        last = slice(-1, None)
        axes.plot(factors[last], scores[last], marker, color=colour, markersize=7, label=setup.name)
    _factor_axis(axes)
    axes.set_xlim(0.8, 5000)
    axes.set_ylim(0.45, 0.9)
    axes.set_ylabel(text("final_validation"), fontsize=9)
    axes.tick_params(labelsize=8)
    if runs:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=7.5)
    return picture


def frontier(
    families: Mapping[str, pd.DataFrame],
    level: float = 1.0,
    worst: float = 6.0,
    x: str = "factor",
    y: str = "points_lost",
) -> Picture:
    """Return points lost against the factor of fewer bytes; a line for each family of codecs.

    Args:
        families: a name -> rows with "factor", "lost" (points) and "spread" (of the seeds), and
            perhaps "label", written beside each point.
        level: the loss that is allowed.
        worst: what loses more than so many points falls out of the picture.
        x, y: names of the labels in `strings`; of small models "times_smaller", "points_whole".
    """
    picture, axes = figure(7.0, 3.6)
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    for (name, rows), (colour, marker, line) in zip(families.items(), looks, strict=False):
        rows = rows.sort_values("factor")
        axes.errorbar(
            rows["factor"], rows["lost"], rows["spread"], fmt=line + marker, color=colour,
            markersize=4, linewidth=1.2, elinewidth=0.7, label=name,
        )  # fmt: skip
        for row in rows.itertuples() if "label" in rows else ():
            if row.lost < worst:
                axes.annotate(
                    row.label, (row.factor, row.lost), xytext=(4, 4), textcoords="offset points",
                    fontsize=6.5, color=colour,
                )  # fmt: skip
    axes.axhline(level, color="#777777", linestyle=":", linewidth=1, label=text("allowed"))
    axes.axhline(0, color="#777777", linewidth=0.8)
    _factor_axis(axes, x)
    lost = max(rows["lost"].max() for rows in families.values())
    axes.set_ylim(min(worst, 1.1 * lost + 0.5), -0.7)  # what loses less stands higher
    axes.set_ylabel(text(y), fontsize=9)
    axes.legend(frameon=False, fontsize=7.5, loc="lower left")
    return picture


def energy(parts: Mapping[str, np.ndarray], x: str) -> Picture:
    """Return how much of the squared length the largest parts hold together, in percent.

    Args:
        parts: a name -> squares, largest first.
        x: "values_kept" (percent of all) or "singular_place" (from 1).
    """
    picture, axes = figure()
    for (name, squares), colour, line in zip(parts.items(), COLOURS, cycle(LINES), strict=False):
        share = 100 * np.cumsum(squares) / np.sum(squares)
        places = np.arange(1, len(share) + 1)
        axes.plot(
            100 * places / len(share) if x == "values_kept" else places, share, line,
            color=colour, label=name,
        )  # fmt: skip
    if x == "values_kept":
        axes.set_xscale("log")
        axes.set_xlim(0.1, 110)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel=text(x), ylabel=text("share_of_square"), ylim=(0, 103))
    axes.legend(frameon=False, fontsize="small")
    return picture


def size_speed(table: pd.DataFrame) -> Picture:
    """Return a bubble for each model: how large its file is, how many points it loses, and, by its
    area, how long it takes for one review.

    Args:
        table: index: names; columns "kilobytes", "lost" (points), "microseconds".
    """
    picture, axes = figure(7.0, 3.6)
    rows = table.sort_values("microseconds").iloc[::-1]  # the largest first: none is hidden
    sides = dict(zip(table.sort_values("kilobytes").index, cycle((1, -1)), strict=False))
    for row, colour in zip(rows.itertuples(), cycle(COLOURS), strict=False):
        above = sides[row.Index]  # neighbours have their names on different sides
        area = 4 * row.microseconds
        place = row.kilobytes, row.lost
        axes.scatter(*place, s=area, color=colour, alpha=0.35, linewidths=0)
        axes.plot(*place, ".", color=colour, markersize=4)
        axes.annotate(
            text("size_speed", name=row.Index, time=row.microseconds), place,
            xytext=(0, above * (area**0.5 / 2 + 8)), textcoords="offset points",
            ha="center", va="center", fontsize=7,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.25, y=0.25)
    axes.axhline(0, color="#777777", linewidth=0.8)
    axes.invert_yaxis()  # what loses less stands higher
    axes.set_xlabel(text("file_kilobytes"), fontsize=9)
    axes.set_ylabel(text("points_whole"), fontsize=9)
    return picture
