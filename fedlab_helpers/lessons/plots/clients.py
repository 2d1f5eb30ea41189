"""Figures of clients: who holds what, how unlike it makes updates, who gains and who pays."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fedlab_helpers.lessons.plots.runs import COLOURS, PAPER, SIZE, Picture, bare, figure, literal
from fedlab_helpers.lessons.words import called, say

BETTER, WORSE = "#4d9221", "#c51b7d"  # as a panel has them: no run has these colours
FLOOR = 0.4  # where the axis begins, or lower where a client is


def class_names(labels: Sequence[object], classes: Sequence[str] | None = None) -> list[str]:
    """Return what labels 0, 1, … are called: as the task names them, or negative and positive."""
    if classes is None:
        return [say(str(label)) for label in labels]
    return [str(classes[int(label)]) for label in labels]


def partition_map(table: pd.DataFrame, classes: Sequence[str] | None = None) -> Picture:
    """Return a heat map of what each client holds, under bars of how much.

    Args:
        table: from `partition.describe`: a column for each client, from left to right; a row for
            each label and, if they were described, each domain, darker where its share is larger.
            The title names the mean Jensen-Shannon divergences, in bits.
        classes: names of the labels; None: negative and positive.
    """
    kinds = [kind for kind in ("label", "domain") if f"{kind} divergence" in table]
    own = table.columns.drop([f"{kind} divergence" for kind in kinds])
    rows = {kind: [column for column in own if column.startswith(f"{kind} ")] for kind in kinds}
    heights = [1.2, *(0.45 * len(names) for names in rows.values())]
    # Margins by hand: an automatic layout draws everything twice, and a slider waits for this.
    height = 1.1 + sum(heights)
    picture = Picture(figsize=(6.4, height))
    picture.subplots_adjust(0.13, 0.5 / height, 0.9, 1 - 0.35 / height, hspace=0.2)
    axes = picture.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    axes[0].stairs(table["size"], np.arange(len(table) + 1) - 0.5, fill=True, color=COLOURS[0])
    axes[0].set_ylim(0)
    axes[0].set_ylabel(say("reviews"))
    bare(axes[0])
    for place, (kind, names) in zip(axes[1:], rows.items(), strict=True):
        told = [name.removeprefix(f"{kind} ") for name in names]
        if kind == "label":
            told = class_names(told, classes)
        mesh = _shares(place, table[names], told)
    picture.colorbar(mesh, ax=axes.tolist(), label=say("share_of_client"), fraction=0.05, pad=0.02)
    axes[-1].set_xlabel(say("client"))
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    means = {kind: table[f"{kind} divergence"].mean() for kind in kinds}
    parts = [say(f"{kind}_divergence", bits=mean) for kind, mean in means.items()]
    axes[0].set_title("; ".join(parts), fontsize=10)
    return picture


def _shares(axes: Axes, shares: pd.DataFrame, names: list[str]):
    """Draw one heat map: a row for each name, a column for each client."""
    values = shares.to_numpy().T
    mesh = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(names)), map(literal, names))
    if values.shape[1] <= 12:  # room for figures
        for (row, column), share in np.ndenumerate(values):
            colour = "white" if share > 0.5 else "black"
            style = {"ha": "center", "va": "center", "color": colour, "fontsize": 8}
            axes.text(column, row, f"{share:.0%}", **style)
    return mesh


def cosine_maps(
    matrices: Mapping[str, np.ndarray],
    titles: Mapping[str, str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Picture:
    """Return a heat map of the cosines between clients' updates, (K, K), for each kind of deal; the
    diagonal is left empty. By kind, `titles` are written over maps in place of the kind's name, and
    `groups`, the name of each client's group, along the axis in place of numbers."""
    size = 2.6 * len(matrices) + 0.6, 3.3 if groups else 2.8
    picture = Picture(figsize=size, layout="constrained")
    axes = picture.subplots(1, len(matrices), squeeze=False)[0]
    for place, (kind, matrix) in zip(axes, matrices.items(), strict=True):
        values = np.array(matrix, dtype=float)
        np.fill_diagonal(values, np.nan)
        mesh = place.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1)
        place.set_title(literal((titles or {}).get(kind, called(kind))), fontsize=10)
        place.set_xlabel(say("client"))
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        if kind in (groups or {}):
            places, names = _middles(list(groups[kind]))
            place.set_xticks(places, names, rotation=90, fontsize=8)
            place.set_yticks(places, names, fontsize=8)
    axes[0].set_ylabel(say("client"))
    picture.colorbar(mesh, ax=axes.tolist(), label=say("cosine"), fraction=0.05)
    return picture


def client_dots(series: Mapping[str, np.ndarray]) -> Picture:
    """Return each client's accuracy, sorted, one line of dots for each run, from name ->
    accuracies, (K,), of `per_client.own_accuracy`."""
    picture, axes = figure()
    for (name, own), colour, marker in zip(series.items(), COLOURS, "osD^vP*", strict=False):
        axes.plot(np.sort(own), marker, color=colour, markersize=5, label=literal(name))
    axes.set(xlabel=say("clients_sorted"), ylabel=say("own_accuracy"), ylim=(-0.02, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return picture


def client_bars(
    shared: Sequence[float] = (),
    own: Sequence[float] = (),
    groups: Sequence[str] = (),
    title: str = "",
) -> Picture:
    """Return a bar for each client, from its accuracy with the shared model, a mark, to that with
    its own: as long as what it gains.

    Args:
        shared: with the model that all share, (K,); none: nothing has been trained.
        own: with its own, of the first clients.
        groups: the domain or convention of each, (K,); those of a group stand together.
        title: what is shown.
    """
    picture = Picture(figsize=SIZE)
    picture.subplots_adjust(left=0.08, right=0.99, top=0.78, bottom=0.14)
    axes = bare(picture.add_subplot())
    axes.set_title(literal(title or say("personal_waits")), fontsize=9, pad=24)
    axes.set_ylabel(say("own_accuracy"), fontsize=8)
    axes.set_ylim(min([FLOOR, *shared, *own]), 1.0)
    axes.tick_params(labelsize=8)
    order = sorted(range(len(groups)), key=lambda client: groups[client])
    for place, client in enumerate(order):
        if client < len(own):
            style = _look(own[client] < shared[client])
            axes.bar(place, own[client] - shared[client], 0.7, shared[client], **style)
    axes.set_xticks(*_middles([groups[client] for client in order]))
    if not order:
        return picture
    axes.plot(
        range(len(order)), [shared[client] for client in order], "_",
        color="black", markersize=13, markeredgewidth=2, label=say("shared_model"), clip_on=False,
    )  # fmt: skip
    for worse, name in ((False, "better_off"), (True, "worse_off")):
        axes.add_patch(Rectangle((0, 0), 0, 0, **_look(worse), label=say(name)))
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="x", length=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8)
    return picture


def _look(worse: bool) -> dict[str, object]:
    colour, hatch = (WORSE, "///") if worse else (BETTER, "")
    return {"facecolor": colour, "hatch": hatch, "edgecolor": PAPER, "alpha": 0.75}


def _middles(groups: list[str]) -> tuple[list[float], list[str]]:
    """Return where the names of runs of equal groups go, and these names."""
    names = list(dict.fromkeys(groups))
    middles = [groups.index(name) + (groups.count(name) - 1) / 2 for name in names]
    return middles, [literal(name) for name in names]


def slopes(
    shared: Sequence[float], owns: Mapping[str, Sequence[float]], groups: Sequence[str]
) -> Picture:
    """Return a line for each client, from its accuracy with the shared model, (K,), to its own
    model's, (K,): a row of panes for each method of `owns`, all on the same axes, one pane for each
    group, (K,), which is a domain or a convention."""
    names, looks = list(dict.fromkeys(groups)), (("-o", BETTER), ("--s", WORSE))
    picture = Picture(figsize=(1.7 * len(names) + 0.8, 2.4 * len(owns) + 0.6), layout="constrained")
    rows = picture.subplots(len(owns), len(names), sharex=True, sharey=True, squeeze=False)
    for row, (method, own) in zip(rows, owns.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            for before, after, group in zip(shared, own, groups, strict=True):
                if group == name:
                    style, colour = looks[int(after < before)]
                    axes.plot([0, 1], [before, after], style, color=colour, ms=4, lw=1.3)
            bare(axes).set_title(literal(name), fontsize=9)
            axes.set_xticks([0, 1], [say("mean_shared"), say("mean_own")], fontsize=8)
            axes.set_xlim(-0.25, 1.25)
            axes.tick_params(axis="y", labelsize=8)
        row[0].set_ylabel(literal(method), fontsize=8)
    picture.supylabel(say("own_accuracy"), fontsize=8)
    for (style, colour), name in zip(looks, ("better_off", "worse_off"), strict=True):
        rows[0][0].plot([], [], style, color=colour, ms=4, lw=1.3, label=say(name))
    picture.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return picture
