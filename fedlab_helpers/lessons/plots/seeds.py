"""Figures of tables with several seeds: each seed is a dot, so that luck stays visible."""

from collections.abc import Mapping, Sequence
from statistics import mean

from fedlab_helpers.lessons.plots.basic import COLOURS, Picture


def seed_dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    label: str,
    level: float | None = None,
) -> Picture:
    """Return one row for each name: a dot for each seed, and a bar at their mean.

    Args:
        panels: title of each panel -> name -> a value for each seed. All panels have the rows of
            the first, the first on top; a name that a panel lacks has no dots there.
        label: of the value axis.
        level: a vertical line to compare with.
    """
    names = list(next(iter(panels.values())))
    picture = Picture(figsize=(2.2 + 3.1 * len(panels), 0.9 + 0.24 * len(names)))
    picture.set_layout_engine("constrained")
    axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (title, values) in zip(axes, panels.items(), strict=True):
        place.spines[["top", "right"]].set_visible(False)
        for row, name in enumerate(names):
            if dots := list(values.get(name, ())):
                place.plot(dots, [row] * len(dots), "o", color=COLOURS[0], markersize=4, alpha=0.7)
                place.plot([mean(dots)], [row], "|", color=COLOURS[1], markersize=11, mew=2)
        if level is not None:
            place.axvline(level, color="#777777", linestyle=":", linewidth=1)
        place.set_title(title, fontsize=10)
        place.set_xlabel(label, fontsize=9)
        place.grid(axis="y", color="#eeeeee")
        place.set_axisbelow(True)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return picture
