"""Pictures of what personalization does to each client."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fedlab_helpers.lessons.panels.personal_run import Bars
from fedlab_helpers.lessons.plots.basic import COLOURS, Picture, figure
from fedlab_helpers.lessons.words import text

WIDTH, HEIGHT = 8.6, 3.2  # inches; always the same, so that a panel does not jump
BETTER, WORSE, SHARED = COLOURS[0], COLOURS[1], "#777777"
FLOOR = 0.4  # where the bars begin


def bars_plot(bars: Bars | None, title: str = "") -> Picture:
    """Return a bar for each client that has a model of its own, and a mark for the shared one's.

    Args:
        bars: accuracies; None: nothing has been trained.
        title: what is shown.
    """
    picture = Picture(figsize=(WIDTH, HEIGHT))
    picture.subplots_adjust(left=0.08, right=0.99, top=0.78, bottom=0.14)
    axes = picture.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title or text("personal_waits"), fontsize=9, pad=24)
    axes.set_ylabel(text("own_accuracy"), fontsize=8)
    axes.set_ylim(FLOOR, 1.0)
    axes.tick_params(labelsize=8)
    if bars is None:
        axes.set_xticks([])
        return picture
    _draw(axes, bars)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8)
    return picture


def _draw(axes: Axes, bars: Bars) -> None:
    """Draw the clients beside those of their group."""
    order = sorted(range(len(bars.groups)), key=lambda client: bars.groups[client])
    for place, client in enumerate(order):
        if client < len(bars.own):
            worse = bars.own[client] < bars.shared[client]
            axes.bar(place, bars.own[client] - FLOOR, 0.7, FLOOR, **_look(worse))
    axes.plot(
        range(len(order)), [bars.shared[client] for client in order], "_",
        color="black", markersize=13, markeredgewidth=2, label=text("shared_model"),
    )  # fmt: skip
    for worse, name in ((False, "better_off"), (True, "worse_off")):
        axes.add_patch(Rectangle((0, 0), 0, 0, **_look(worse), label=text(name)))
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_xticks(*_middles([bars.groups[client] for client in order]))
    axes.tick_params(axis="x", length=0)


def _look(worse: bool) -> dict[str, object]:
    colour, hatch = (WORSE, "///") if worse else (BETTER, "")
    return {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "alpha": 0.75}


def _middles(groups: Sequence[str]) -> tuple[list[float], list[str]]:
    """Return where the names of runs of equal groups go, and these names."""
    middles, names, start = [], [], 0
    for name, members in groupby(groups):
        size = len(list(members))
        middles.append(start + (size - 1) / 2)
        names.append(text(name))
        start += size
    return middles, names


def slopes(
    shared: Sequence[float], own: Sequence[float], groups: Sequence[str], title: str
) -> Picture:
    """Return a line for each client, from its accuracy with the shared model to its own model's.

    Args:
        shared: of each client, (K,).
        own: of each client, (K,).
        groups: its domain or convention, (K,); one pane each.
        title: of the picture.
    """
    names = list(dict.fromkeys(groups))
    picture = Picture(figsize=(1.7 * len(names) + 0.8, 3.2), layout="constrained")
    picture.suptitle(title, fontsize=10)
    panes = np.atleast_1d(picture.subplots(1, len(names), sharey=True))
    for axes, name in zip(panes, names, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for before, after, group in zip(shared, own, groups, strict=True):
            if group == name:
                better = after >= before
                axes.plot(
                    [0, 1], [before, after], "-o" if better else "--s",
                    color=BETTER if better else WORSE, markersize=4, linewidth=1.3,
                )  # fmt: skip
        axes.set_title(text(name), fontsize=9)
        axes.set_xticks([0, 1], [text("mean_shared"), text("mean_own")], fontsize=8)
        axes.set_xlim(-0.25, 1.25)
        axes.tick_params(axis="y", labelsize=8)
    panes[0].set_ylabel(text("own_accuracy"), fontsize=8)
    return picture


def gains_plot(gains: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Return one pane for each deal: a row for each method, a dot for each seed, a bar at the mean.

    Args:
        gains: deal -> method -> gain over the shared model in points, one a seed; every deal has
            the same methods, in the same order.
    """
    methods = list(next(iter(gains.values())))
    picture = Picture(
        figsize=(2.3 + 1.55 * len(gains), 0.23 * len(methods) + 0.9), layout="constrained"
    )
    panes = np.atleast_1d(picture.subplots(1, len(gains), sharey=True))
    rows = np.arange(len(methods))[::-1]
    for axes, (deal, measured) in zip(panes, gains.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(0, color=SHARED, linewidth=1)
        for row, method in zip(rows, methods, strict=True):
            values = measured[method]
            mean = float(np.mean(values))
            axes.barh(row, mean, 0.62, color=BETTER if mean >= 0 else WORSE, alpha=0.45)
            axes.plot(values, [row] * len(values), "o", color="black", markersize=2.5)
        axes.set_title(text(deal), fontsize=8)
        axes.tick_params(labelsize=7.5)
        axes.grid(axis="x", alpha=0.3)
    panes[0].set_yticks(rows, [text(method) for method in methods], fontsize=8)
    picture.supxlabel(text("gain_points"), fontsize=8)
    return picture


def cold_start(scores: Mapping[str, Mapping[int, float]]) -> Picture:
    """Return a line for each method: newcomers' mean accuracy by how many reviews they label.

    Args:
        scores: method -> number of labelled reviews -> accuracy.
    """
    picture, axes = figure(6.4, 3.2)
    labelled = sorted({count for line in scores.values() for count in line})
    for place, (method, line) in enumerate(scores.items()):
        axes.plot(
            range(len(labelled)),
            [line[count] for count in labelled],
            ("-", "--", "-.", ":")[place % 4],
            marker="os^Dvx"[place % 6],
            markersize=4,
            color=COLOURS[place % len(COLOURS)],
            label=text(method),
        )
    axes.set_xticks(range(len(labelled)), labelled)
    axes.set_xlabel(text("labelled_reviews"))
    axes.set_ylabel(text("newcomers_accuracy"))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture
