"""Figures of tables and tests: values with their spread, frontiers, confusion, calibration."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise, repeat
from operator import itemgetter
from statistics import mean

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.contour import ContourSet
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from scipy.ndimage import gaussian_filter
from sklearn.metrics import confusion_matrix

from fedlab_helpers.lessons.plots.clients import BETTER, WORSE, class_names
from fedlab_helpers.lessons.plots.runs import (
    COLOURS,
    PAPER,
    PLAIN,
    Picture,
    factor_axis,
    figure,
    literal,
    look,
    panes,
)
from fedlab_helpers.lessons.words import called, say


def bars(values: Mapping[str, float], label: str, errors: Sequence[float] | None = None) -> Picture:
    """Return a horizontal bar for each name, the first on top, with its value written at the end;
    `errors` are half-widths of their error lines, in the unit of the values."""
    picture, axes = figure(5, 0.8 + 0.4 * len(values))
    drawn = axes.barh([*map(literal, values)], list(values.values()), xerr=errors, color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(literal(label))
    return picture


def histogram(values: Sequence[float], label: str, mark: float | None = None) -> Picture:
    """Return how often values occur, with a line at `mark` that bears its number."""
    picture, axes = figure()
    axes.hist(values, bins=40, color=COLOURS[0])
    if mark is not None:
        axes.axvline(mark, color=COLOURS[1], linestyle="--")
        up = axes.get_xaxis_transform()
        axes.text(mark, 0.98, f" {mark:g}", color=COLOURS[1], va="top", transform=up)
    axes.set(xlabel=literal(label), ylabel=say("reviews"))
    return picture


def confusion(
    labels: Sequence[int], predictions: Sequence[int], names: Sequence[str] | None = None
) -> Picture:
    """Return the counts of each label, (N,), in rows, and predicted class, (N,), in columns.
    `names` are those of the classes; None: negative and positive."""
    classes = np.unique(np.concatenate([labels, predictions])).tolist()
    counts = confusion_matrix(labels, predictions, labels=classes)
    picture, axes = figure(3.8, 3)
    axes.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    told = [literal(name) for name in class_names(classes, names)]
    axes.set_xticks(range(len(classes)), told)
    axes.set_yticks(range(len(classes)), told)
    axes.set(xlabel=say("predicted"), ylabel=say("actual"))
    return picture


def calibration(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> Picture:
    """Return the share of right answers against the probability, (N,), that the model gave to the
    class it predicted; `correct` says whether that was right, (N,); bins are of equal numbers."""
    picture, axes = figure(4, 3)
    order = [some for some in np.array_split(np.argsort(confidence), bins) if len(some)]
    sure, right = (
        [np.mean(np.asarray(values)[some]) for some in order] for values in (confidence, correct)
    )
    low = min(*sure, *right)
    axes.plot([low, 1], [low, 1], ":", color="#777777", label=say("perfectly_calibrated"))
    axes.plot(sure, right, "o-", color=COLOURS[0], label=say("model"))
    axes.set(xlabel=say("confidence"), ylabel=say("share_correct"))
    axes.legend(frameon=False, fontsize="small")
    return picture


def gradient_map(
    lengths: np.ndarray, radii: Sequence[float], mark: tuple[float, float] | None = None
) -> Picture:
    """Return a heat map of how long a gradient still is, with lines at 1/1000, 1 and 1000.

    Args:
        lengths: as `rnn.gradient_map` returns them, (R, steps + 1).
        radii: the spectral radius of each row, (R,), ascending.
        mark: steps back and radius of a point to mark.
    """
    picture, axes = figure(5.4, 3.2)
    steps, logs = np.arange(lengths.shape[1]), np.log10(lengths)
    mesh = axes.pcolormesh(steps, radii, logs, cmap="PuOr_r", vmin=-8, vmax=8, shading="nearest")
    lines = gradient_levels(axes, lengths, radii)
    axes.clabel(lines, fmt=lambda level: f"{10**level:g}", fontsize=8)
    if mark:
        style = {"color": "white", "markeredgecolor": "black", "markersize": 8}
        axes.plot(*mark, "o", **style, clip_on=False)  # whole at the edge, too
    bar = picture.colorbar(mesh, ax=axes, extend="both", label=say("gradient_length"))
    bar.set_ticks([-8, -4, 0, 4, 8], labels=["1e-8", "1e-4", "1", "1e4", "1e8"])
    axes.set(xlabel=say("steps_back"), ylabel=say("spectral_radius"))
    return picture


def gradient_levels(axes: Axes, lengths: np.ndarray, radii: Sequence[float]) -> ContourSet:
    """Draw where a gradient, smoothed, is 1/1000, 1 and 1000 long, and return these lines; lengths
    and radii are as in `gradient_map`."""
    style = {"levels": [-3, 0, 3], "colors": "black", "linestyles": [":", "-", "--"]}
    smooth = gaussian_filter(np.log10(lengths), (2, 4))  # without the islands of single draws
    steps = np.arange(5, lengths.shape[1])  # at step 0 every length is 1
    return axes.contour(steps, radii, smooth[:, 5:], **style)


def frontier(
    families: Mapping[str, pd.DataFrame],
    level: float = 1.0,
    worst: float = 6.0,
    x: str = "factor",
    y: str = "points_lost",
    goal: float | None = None,
) -> Picture:
    """Return points lost against the factor of fewer bytes; a line for each family of codecs.

    Args:
        families: a name -> rows with "factor", "lost" (points) and "±"; beside each point stands
            its "label", or else its name; nothing where the label is empty.
        level: the loss that is allowed.
        worst: what loses more than so many points falls out of the picture.
        x, y: keys of the labels in `words`; of small models "times_smaller", "points_whole".
        goal: the factor that is to be reached: an upright line.
    """
    picture, axes = figure(7.0, 4.2)
    notes = []
    for place, (name, rows) in enumerate(families.items()):
        rows, style = rows.sort_values("factor"), look(_APART[place % len(_APART)])
        errors = rows["±"].where(rows["lost"] + rows["±"] < worst)  # none that is cut off
        axes.errorbar(
            rows["factor"], rows["lost"], errors, **style,
            markersize=4, linewidth=1.2, elinewidth=0.5, label=literal(name),
        )  # fmt: skip
        inside = rows[rows["lost"] < worst]
        labels = inside.get("label", inside.index)
        notes += zip(labels, inside["factor"], inside["lost"], repeat(style["color"]), strict=False)
    axes.axhline(level, color="#777777", linestyle=":", linewidth=1, label=say("allowed"))
    axes.axhline(0, color="#777777", linewidth=0.8)
    if goal is not None:
        axes.axvline(goal, color="#777777", linestyle=":", linewidth=1)
    factor_axis(axes, x)
    low, high = (
        [end(rows["lost"] + sign * rows["±"]) for rows in families.values()]
        for sign, end in ((1, max), (-1, min))
    )
    axes.set_ylim(min(worst, 1.1 * max(low) + 0.5), min(high) - 0.3)  # what loses less is higher
    axes.set_ylabel(literal(called(y)), fontsize=9)
    axes.legend(frameon=False, fontsize=7.5, loc="lower left")
    _annotate(picture, axes, notes)
    return picture


_HALO = [withStroke(linewidth=2, foreground=PAPER)]  # letters stay legible on lines
_APART = (0, 1, 2, 3, 6, 5, 4)  # colours in the order in which neighbours look least alike


def _annotate(picture: Picture, axes: Axes, notes: Sequence[tuple[str, float, float, str]]) -> None:
    """Write (text, x, y, colour) beside their points, each where it covers the least: no text and
    no point, if any place is free of both, and then as little of lines and error bars as can be."""
    picture.draw_without_rendering()
    drawn = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    bars = [each for each in axes.collections if isinstance(each, LineCollection)]
    drawn += [axes.transData.transform(bar) for each in bars for bar in each.get_segments()]
    way = [point for line in drawn for a, b in pairwise(line) for point in _steps(a, b)]
    spots = [axes.transData.transform(note[1:3]) for note in notes]
    crossed, taken = (
        [Bbox.from_extents(*(spot - 3), *(spot + 3)) for spot in each] for each in (way, spots)
    )
    for text, *point, colour in filter(itemgetter(0), notes):
        tries = []
        for dx, dy, side in _SIDES:
            note = axes.annotate(
                literal(text), point, xytext=(dx, dy), textcoords="offset points",
                ha=side, va="center", fontsize=6.5, color=colour, path_effects=_HALO,
            )  # fmt: skip
            box = note.get_window_extent().padded(2)
            beyond = box.x0 < axes.bbox.x0 or box.x1 > axes.bbox.x1
            hidden = beyond + sum(map(box.overlaps, taken))
            tries.append((hidden, sum(map(box.overlaps, crossed)), len(tries), note, box))
        taken.append(min(tries)[-1])
        for *_, note, _ in sorted(tries)[1:]:
            note.remove()


def _steps(a: np.ndarray, b: np.ndarray, length: float = 4.0) -> np.ndarray:
    """Return the way from a to b, both (2,), in even steps of at most a length."""
    return np.linspace(a, b, 2 + int(np.linalg.norm(b - a) / length))


_SIDES = [
    (dx, dy, side)
    for dy in (6, -6, 12, -12, 0, 18, -18)
    for dx, side in ((4, "left"), (-4, "right"))
]


def energy(parts: Mapping[str, np.ndarray], x: str) -> Picture:
    """Return how much of the squared length the largest parts hold together, in percent, from
    name -> squares, largest first, over "values_kept" (percent of all) or "singular_place"."""
    picture, axes = figure()
    for place, (name, squares) in enumerate(parts.items()):
        share, style = 100 * np.cumsum(squares) / np.sum(squares), look(place) | {"marker": ""}
        places = np.arange(1, len(share) + 1)
        kept = 100 * places / len(share) if x == "values_kept" else places
        axes.plot(kept, share, **style, label=literal(name))
    if x == "values_kept":
        axes.set_xscale("log")
        axes.set_xlim(0.1, 110)
        axes.xaxis.set_major_formatter(PLAIN)
    axes.set(xlabel=literal(called(x)), ylabel=say("share_of_square"), ylim=(0, 103))
    axes.legend(frameon=False, fontsize="small")
    return picture


def size_speed(table: pd.DataFrame) -> Picture:
    """Return a bubble for each model: how large its file is, how many points it loses, and, by its
    area, how long it takes for one review; columns "kilobytes", "lost", "±", "microseconds"."""
    picture, axes = figure(7.0, 4.2)
    rows = table.sort_values("microseconds").iloc[::-1]  # the largest first: none is hidden
    notes = []
    for row, number in zip(rows.itertuples(), cycle(_APART), strict=False):
        place, colour = (row.kilobytes, row.lost), COLOURS[number]
        axes.scatter(*place, s=4 * row.microseconds, color=colour, alpha=0.35, linewidths=0)
        error = table["±"][row.Index]
        axes.errorbar(*place, error, fmt=".", color=colour, markersize=4, elinewidth=0.5)
        notes.append((say("size_speed", name=row.Index, time=row.microseconds), *place, colour))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.margins(x=0.25, y=0.25)
    axes.axhline(0, color="#777777", linewidth=0.8)
    axes.invert_yaxis()  # what loses less stands higher
    axes.set_xlabel(say("file_kilobytes"), fontsize=9)
    axes.set_ylabel(say("points_whole"), fontsize=9)
    _annotate(picture, axes, notes)
    return picture


def growth(table: pd.DataFrame) -> Picture:
    """Return what a round costs against the number of clients, and of words: its seconds, from the
    fastest to the slowest, and the peak of memory; of the table `growth` in data/results."""
    picture = Picture(figsize=(8.2, 3.2), layout="constrained")
    settings = ["clients", "cohort", "words", "reviews_a_client"]
    for axes, x in zip(picture.subplots(1, 2), ("clients", "words"), strict=True):
        others = table.groupby([name for name in settings if name != x])
        rows = max((rows for _, rows in others), key=len).sort_values(x)
        spread = [rows["seconds_a_round"] - rows["least"], rows["most"] - rows["seconds_a_round"]]
        time, memory = look(0), look(1)
        axes.errorbar(rows[x], rows["seconds_a_round"], spread, **time, label=say("round_seconds"))
        right = axes.twinx()
        axes.plot([], [], **memory, label=say("peak_memory"))
        right.plot(rows[x], rows["peak_mib"], **memory)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel=say(f"growth_{x}", **rows.iloc[0]), ylabel=say("round_seconds"))
        right.set_ylabel(say("peak_memory"))
        for side in (axes, right):
            side.set_ylim(0, 1.15 * side.get_ylim()[1])
            side.spines["top"].set_visible(False)
        axes.legend(frameon=False, fontsize="small", loc="lower right")
    return picture


def seed_dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    label: str,
    level: float | None = None,
) -> Picture:
    """Return one row for each name: a dot for each seed, and a bar at the mean of several.

    Args:
        panels: title of each panel -> name -> a value for each seed. All have the rows of the
            first, the first on top; a name that one lacks has no dots there.
        label: of the value axis.
        level: a vertical line to compare with.
    """
    names = list(next(iter(panels.values())))
    picture, axes = panes(len(panels), 2.2 + 3.1 * len(panels), 0.9 + 0.24 * len(names))
    for place, (title, values) in zip(axes, panels.items(), strict=True):
        for row, name in enumerate(names):
            if dots := list(values.get(name, ())):
                place.plot(dots, [row] * len(dots), "o", color=COLOURS[0], markersize=4, alpha=0.7)
                if len(dots) > 1:
                    place.plot([mean(dots)], [row], "|", color=COLOURS[1], markersize=11, mew=2)
        if level is not None:
            place.axvline(level, color="#777777", linestyle=":", linewidth=1)
        place.set_title(literal(title), fontsize=10)
        place.set_xlabel(literal(label), fontsize=9)
        place.grid(axis="y", color="#d8d8d4")
        place.set_axisbelow(True)
    axes[0].set_yticks(range(len(names)), map(literal, names), fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return picture


def gains(deals: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Return one pane for each deal: a row for each method, a dot for each seed, a bar at the mean
    of deal -> method -> gains over the shared model, in points. All deals have the same methods and
    the same axis; the method with the highest mean over the deals is on top."""
    whole = {
        method: mean(mean(measured[method]) for measured in deals.values())
        for method in next(iter(deals.values()))
    }
    methods = sorted(whole, key=lambda method: -whole[method])
    picture, row_of = panes(len(deals), 2.3 + 1.9 * len(deals), 0.23 * len(methods) + 0.9)
    rows = np.arange(len(methods))[::-1]
    for axes, (deal, measured) in zip(row_of, deals.items(), strict=True):
        axes.axvline(0, color="#777777", linewidth=1)
        for row, method in zip(rows, methods, strict=True):
            values = measured[method]
            middle = mean(values)
            axes.barh(row, middle, 0.62, color=BETTER if middle >= 0 else WORSE, alpha=0.45)
            axes.plot(values, [row] * len(values), "o", color="black", markersize=2.5)
        axes.set_title(literal(called(deal)), fontsize=8)
        axes.tick_params(labelsize=7.5)
        axes.grid(axis="x", alpha=0.3)
    row_of[0].set_yticks(rows, [literal(called(method)) for method in methods], fontsize=8)
    ends = [axes.get_xlim() for axes in row_of]
    for axes in row_of:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    picture.supxlabel(say("gain_points"), fontsize=8)
    return picture


def cold_start(scores: Mapping[str, Mapping[int, float]]) -> Picture:
    """Return a line for each method: newcomers' mean accuracy by how many reviews they label, from
    method -> number of labelled reviews -> accuracy."""
    picture, axes = figure(6.4, 3.2)
    labelled = sorted({count for line in scores.values() for count in line})
    for place, (method, line) in enumerate(scores.items()):
        values, style = [line[count] for count in labelled], look(place) | {"markersize": 4}
        axes.plot(range(len(labelled)), values, **style, label=literal(called(method)))
    axes.set_xticks(range(len(labelled)), labelled)
    axes.set(xlabel=say("labelled_reviews"), ylabel=say("newcomers_accuracy"))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture
