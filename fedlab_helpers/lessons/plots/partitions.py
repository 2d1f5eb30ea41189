"""Figures of who holds what, how unlike it makes updates, and who pays."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab_helpers.lessons.plots.basic import COLOURS, Picture, figure
from fedlab_helpers.lessons.words import text


def partition_map(table: pd.DataFrame) -> Picture:
    """Return a heat map of what each client holds, under bars of how much.

    Args:
        table: from `partition.describe`: a column for each client, from left to right; a row for
            each label and, if they were described, each domain, darker where its share is larger.
            The title names the mean Jensen-Shannon divergences, in bits.
    """
    kinds = [kind for kind in ("label", "domain") if f"{kind} divergence" in table]
    rows = {
        kind: [c for c in table if c.startswith(f"{kind} ") and c != f"{kind} divergence"]
        for kind in kinds
    }
    heights = [1.2, *(0.45 * len(names) for names in rows.values())]
    # Margins by hand: an automatic layout draws everything twice, and a slider waits for this.
    height = 1.1 + sum(heights)
    picture = Picture(figsize=(6.4, height))
    picture.subplots_adjust(0.13, 0.5 / height, 0.9, 1 - 0.35 / height, hspace=0.2)
    axes = picture.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    axes[0].stairs(table["size"], np.arange(len(table) + 1) - 0.5, fill=True, color=COLOURS[0])
    axes[0].set_ylim(0)
    axes[0].set_ylabel(text("reviews"))
    axes[0].spines[["top", "right"]].set_visible(False)
    for place, (kind, names) in zip(axes[1:], rows.items(), strict=True):
        mesh = _shares(place, table[names], [text(name.removeprefix(f"{kind} ")) for name in names])
    picture.colorbar(mesh, ax=axes.tolist(), label=text("share_of_client"), fraction=0.05, pad=0.02)
    axes[-1].set_xlabel(text("client"))
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    means = {kind: table[f"{kind} divergence"].mean() for kind in kinds}
    parts = [text(f"{kind}_divergence", bits=mean) for kind, mean in means.items()]
    axes[0].set_title("; ".join(parts), fontsize=10)
    return picture


def _shares(axes: Axes, shares: pd.DataFrame, names: list[str]):
    """Draw one heat map: a row for each name, a column for each client."""
    values = shares.to_numpy().T
    mesh = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(names)), names)
    if values.shape[1] <= 12:  # room for figures
        for (row, column), share in np.ndenumerate(values):
            colour = "white" if share > 0.5 else "black"
            axes.text(
                column, row, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=8
            )
    return mesh


def cosine_maps(
    matrices: Mapping[str, np.ndarray], titles: Mapping[str, str] | None = None
) -> Picture:
    """Return a heat map of the cosines between clients' updates for each kind of deal.

    Args:
        matrices: kind -> (K, K), from `divergence.cosines`; the diagonal is left white.
        titles: what is written over a map, by kind; else the kind's own name.
    """
    picture = Picture(figsize=(2.6 * len(matrices) + 0.6, 2.8), layout="constrained")
    axes = picture.subplots(1, len(matrices), squeeze=False)[0]
    for place, (kind, matrix) in zip(axes, matrices.items(), strict=True):
        values = np.array(matrix, dtype=float)
        np.fill_diagonal(values, np.nan)
        mesh = place.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1)
        place.set_title((titles or {}).get(kind, text(kind)), fontsize=10)
        place.set_xlabel(text("client"))
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel(text("client"))
    picture.colorbar(mesh, ax=axes.tolist(), label=text("cosine"), fraction=0.05)
    return picture


def client_dots(series: Mapping[str, np.ndarray]) -> Picture:
    """Return each client's accuracy, sorted, one line of dots for each run.

    Args:
        series: name -> accuracies, (K,), from `per_client.own_accuracy`.
    """
    picture, axes = figure()
    for (name, own), colour, marker in zip(series.items(), COLOURS, "osD^vP*", strict=False):
        axes.plot(np.sort(own), marker, color=colour, markersize=5, label=name)
    axes.set(xlabel=text("clients_sorted"), ylabel=text("own_accuracy"), ylim=(-0.02, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return picture
