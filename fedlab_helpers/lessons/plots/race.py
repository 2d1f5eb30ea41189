"""The picture of a race: accuracy, loss and bytes of several runs, round by round."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from fedlab_helpers.lessons.panels.comparison import Run
from fedlab_helpers.lessons.plots.basic import COLOURS, LINES, Picture
from fedlab_helpers.lessons.words import text

MARKERS = "os^Dvx"
WIDTH, HEIGHT = 8.6, 3.4  # inches; always the same, so that a panel does not jump
HIGHEST_LOSS = 1.5  # a run that breaks down leaves the picture, and the others stay readable


def race_plot(
    runs: Sequence[Run],
    levels: Mapping[str, float] | None = None,
    ticks: Mapping[int, int] | None = None,
) -> Picture:
    """Return three curves for each run: accuracy, loss, and megabytes sent, after each round.

    Args:
        runs: a run keeps its colour, line and marker as others come and go.
        levels: accuracies to compare with, as horizontal lines.
        ticks: number of a run -> clients that have trained in the present round; each is a small
            mark at the foot of the first axes.
    """
    picture = Picture(figsize=(WIDTH, HEIGHT))
    picture.subplots_adjust(left=0.05, right=0.99, top=0.92, bottom=0.37, wspace=0.19)
    panes = picture.subplots(1, 3)
    for axes, what in zip(panes, ("accuracy", "loss", "total_megabytes"), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(text(f"race_{what}"), fontsize=9)
        axes.set_xlabel(text("round"), fontsize=9)
        axes.tick_params(labelsize=8)
        for run in runs:
            _draw(axes, run, what)
    for (name, level), line in zip((levels or {}).items(), ("-", ":"), strict=False):
        panes[0].axhline(level, color="#777777", linestyle=line, linewidth=1, label=name)
    for run in runs:
        _mark(panes[0], run, (ticks or {}).get(run.number, 0))
    panes[1].set_ylim(top=min(panes[1].get_ylim()[1], HIGHEST_LOSS))
    longest = max((run.setup.rounds for run in runs), default=1)
    for axes in panes:
        axes.set_xlim(-0.03 * longest, 1.03 * longest)
    picture.legend(
        *panes[0].get_legend_handles_labels(),
        loc="upper center", bbox_to_anchor=(0.5, 0.25), ncols=3, frameon=False, fontsize=8,
    )  # fmt: skip
    return picture


def _colour(run: Run) -> str:
    return COLOURS[(run.number - 1) % len(COLOURS)]


def _draw(axes: Axes, run: Run, what: str) -> None:
    """Draw what one run has reached so far."""
    values = {
        "accuracy": [point.accuracy for point in run.points],
        "loss": [point.loss for point in run.points],
        "total_megabytes": [point.total_bytes / 1e6 for point in run.points],
    }
    axes.plot(
        [point.round for point in run.points],
        values[what],
        LINES[(run.number - 1) % len(LINES)],
        color=_colour(run),
        marker=MARKERS[(run.number - 1) % len(MARKERS)],
        markersize=3.5,
        label=run.name,
    )


def _mark(axes: Axes, run: Run, trained: int) -> None:
    """Mark each client that has trained since the last point."""
    last = run.points[-1].round if run.points else 0
    places = [last + (client + 1) / run.setup.cohort for client in range(trained)]
    foot = 0.02 + 0.04 * ((run.number - 1) % 6)  # those of several runs above each other
    axes.plot(
        places, [foot] * trained, "|", color=_colour(run), transform=axes.get_xaxis_transform()
    )
