"""A design beside its budgets, and beside other designs."""

from collections.abc import Mapping, Sequence

import pandas as pd

from fedlab_helpers.lessons.plots.runs import COLOURS, Picture, figure, literal
from fedlab_helpers.lessons.words import say

_LEAST, _MOST = 0.02, 50.0  # shares of a budget that are drawn; what is beyond stands at the edge


def budgets(used: Mapping[str, float]) -> Picture:
    """Return the share of each budget that is used, by its name, on a log scale; 1 is all of it."""
    picture, axes = figure(5.2, 0.9 + 0.38 * len(used))
    for place, share in enumerate(used.values()):
        shown, met = min(max(share, 1.3 * _LEAST), _MOST), share <= 1
        colour = COLOURS[0] if met else COLOURS[1]
        axes.barh(place, shown - _LEAST, left=_LEAST, color=colour, hatch="" if met else "//")
        told = say("budget_beyond") if share > _MOST else f"{share:.2g}"
        axes.text(1.15 * shown, place, told, va="center", fontsize=9)
    axes.axvline(1, color="black", linewidth=1, linestyle="--")
    axes.set(xscale="log", xlim=(_LEAST, 6 * _MOST), xlabel=say("budget_share"))
    axes.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(used)), [say(f"budget_{name}") for name in used])
    axes.invert_yaxis()
    return picture


def standing(
    table: pd.DataFrame, label: str, mine: Sequence[float] = (), named: str = "design_yours"
) -> Picture:
    """Return designs by their scores: a dot is the mean, a line goes from the least to the largest.

    Args:
        table: a row a design, the best first: "name", "mean", "low", "high", and "within", whether
            it stays within all budgets; else its dot is hollow.
        label: what the score is.
        mine: score of a reader's own design, drawn as a line across.
    """
    picture, axes = figure(5.2, 1.0 + 0.34 * len(table))
    for place, row in enumerate(table.itertuples()):
        fill = COLOURS[0] if row.within else "none"
        axes.plot([row.low, row.high], [place, place], color=COLOURS[0], linewidth=1.5, zorder=1)
        axes.scatter(row.mean, place, s=46, color=fill, edgecolor=COLOURS[0], zorder=2)
    for score in mine:
        axes.axvline(score, color=COLOURS[1], linewidth=2, label=say(named))
    if len(mine):
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    axes.set_yticks(range(len(table)), [literal(say(f"design_{name}")) for name in table["name"]])
    axes.invert_yaxis()
    axes.set_xlabel(f"{label}; {say('standing_dots')}")
    return picture
