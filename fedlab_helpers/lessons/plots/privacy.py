"""What noise hides, and what it costs."""

import numpy as np
import pandas as pd

from fedlab_helpers.lessons.plots.runs import COLOURS, Picture, figure, literal, look
from fedlab_helpers.lessons.words import say


def two_worlds(mu: float, epsilon: float) -> Picture:
    """Return how likely each noisy sum is with one client, who moves it by `mu` standard deviations
    of the noise, and without. Filled: by how much the first exceeds e^epsilon times the second,
    which is delta."""
    picture, axes = figure(5.4, 2.8)
    at = np.linspace(-3.5, mu + 3.5, 500)
    without, with_one = (np.exp(-((at - middle) ** 2) / 2) for middle in (0, mu))
    allowed = np.exp(epsilon) * without
    for place, (name, values) in enumerate((("without_her", without), ("with_her", with_one))):
        axes.plot(at, values, label=say(name), **look(place) | {"marker": ""})
    axes.plot(at, allowed, ":", color="#777777", label=say("allowed_ratio", epsilon=epsilon))
    over = {"where": with_one > allowed, "color": COLOURS[1], "alpha": 0.4}
    axes.fill_between(at, allowed, with_one, **over)
    axes.set(xlabel=say("noisy_sum"), ylim=(0, 1.08), yticks=[])
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 3}
    axes.legend(frameon=False, fontsize="small", **above)
    return picture


def price(table: pd.DataFrame, plain: float | None = None) -> Picture:
    """Return accuracies against epsilon: of each world the mean over seeds as a line, and each seed
    as a dot; without noise at the right edge.

    Args:
        table: a row for each run: world, epsilon (NaN: no noise), accuracy.
        plain: an accuracy to draw a line at.
    """
    picture, axes = figure(5.4, 3.2)
    known = sorted(table["epsilon"].dropna().unique())
    right = 2 * known[-1]
    for place, (world, runs) in enumerate(table.groupby("world", sort=False)):
        at = runs["epsilon"].fillna(right)
        means = runs["accuracy"].groupby(at).mean()
        style = look(place)
        axes.plot(means.index, means, label=literal(world), **style)
        axes.plot(at, runs["accuracy"], "o", color=style["color"], markersize=3, alpha=0.6)
    if plain is not None:
        axes.axhline(plain, color="#777777", linestyle=":", label=say("majority"))
    axes.set_xscale("log")
    axes.set_xticks([*known, right], [*(f"{each:g}" for each in known), say("no_noise")])
    axes.minorticks_off()
    axes.set(xlabel=say("price_epsilon"), ylabel=say("accuracy"))
    axes.legend(frameon=False, fontsize="small")
    return picture


def left_of(table: pd.DataFrame) -> Picture:
    """Return what each attack still gets under each protection, in brackets what is chance: means
    over seeds, on a ground that is the darker the more the one is above the other.

    Args:
        table: a row for each measurement: attack, protection, value, and chance, which is what it
            would be for an attacker who sees nothing. Under the protection that comes first there
            is none, and all grounds are measured against it.
    """
    means = table.groupby(["protection", "attack"], sort=False)[["value", "chance"]].mean()
    values, chance = (means[name].unstack(sort=False) for name in ("value", "chance"))
    more = (values - chance).clip(lower=0)
    picture, axes = figure(1.9 + 1.25 * values.shape[1], 0.9 + 0.34 * len(values))
    axes.imshow(more / more.iloc[0], cmap="Oranges", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        told = f"{value:.2f} ({chance.iat[row, column]:.2f})"
        axes.text(column, row, told, ha="center", va="center")
    axes.set_xticks(
        range(values.shape[1]), [literal(name).replace(" ", "\n", 1) for name in values]
    )
    axes.set_yticks(range(len(values)), map(literal, values.index))
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    return picture
