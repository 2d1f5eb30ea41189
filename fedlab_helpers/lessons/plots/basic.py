"""Figures: small, readable without colour, and shown by any notebook that ends a cell with one."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons.words import text

# Okabe and Ito's palette, which colour-blind readers can tell apart; styles serve grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
_CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
)  # fmt: skip


class Picture(Figure):
    """A figure that draws itself in a notebook, without pyplot's global state."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def figure(width: float = 5, height: float = 3) -> tuple[Picture, Axes]:
    """Return an empty figure of this size, in inches, and its axes."""
    picture = Picture(figsize=(width, height), layout="constrained")
    axes = picture.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return picture, axes


def curves(
    series: Mapping[str, History | Sequence[RoundRecord] | pd.DataFrame],
    y: str = "accuracy",
    x: str = "round",
    levels: Mapping[str, float] | None = None,
) -> Picture:
    """Return one line for each history.

    Args:
        series: a name for each history, or a frame like `History.to_frame()`.
        y: column drawn upwards; rounds without a value are passed over.
        x: "round", or a column such as "total_bytes" or "total_megabytes".
        levels: horizontal lines to compare with, such as a centralised accuracy.
    """
    picture, axes = figure()
    for (name, history), colour, line in zip(
        series.items(), cycle(COLOURS), cycle(LINES), strict=False
    ):
        points = _frame(history)[[x, y]].dropna()
        axes.plot(points[x], points[y], line, color=colour, marker="o", markersize=3, label=name)
    for (name, level), line in zip((levels or {}).items(), cycle(LINES[::-1]), strict=False):
        axes.axhline(level, color="#777777", linestyle=line, linewidth=1, label=name)
    if x in ("round", "holders"):  # nothing is at half a round
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=text(x), ylabel=text(y))
    if len(series) + len(levels or {}) > 1:
        axes.legend(frameon=False, fontsize="small")
    return picture


def _frame(history: History | Sequence[RoundRecord] | pd.DataFrame) -> pd.DataFrame:
    if not isinstance(history, pd.DataFrame):
        history = History(tuple(history)).to_frame()
    frame = history.reset_index()
    if "total_bytes" in frame:
        frame["total_megabytes"] = frame["total_bytes"] / 1e6
    return frame


class LiveCurve:
    """One curve, redrawn in place as records come, which stays in the saved notebook.

    Args:
        rounds: how many rounds are to come, for the width of the axis.
        y: which metric is drawn.
        levels: horizontal lines to compare with.
    """

    def __init__(self, rounds: int, y: str = "accuracy", levels: Mapping[str, float] | None = None):
        self.rounds, self.y, self.levels = rounds, y, levels
        self.records: list[RoundRecord] = []
        self._display = None

    def add(self, record: RoundRecord) -> None:
        """Draw one more round."""
        from IPython.display import display

        self.records.append(record)
        picture = curves({text(self.y): self.records}, self.y, levels=self.levels)
        axes = picture.axes[0]
        axes.set_xlim(0.5, self.rounds + 0.5)
        if record.metrics:
            axes.set_title(text("progress", round=record.round, **record.metrics), fontsize=10)
        if self._display is None:
            self._display = display(picture, display_id=True)
        else:
            self._display.update(picture)


def bars(values: Mapping[str, float], label: str, errors: Sequence[float] | None = None) -> Picture:
    """Return horizontal bars, the first on top, with their values written at the ends.

    Args:
        values: a value for each name.
        label: of the value axis.
        errors: half-width of each bar's error line, in the unit of the values.
    """
    picture, axes = figure(5, 0.8 + 0.4 * len(values))
    drawn = axes.barh(list(values), list(values.values()), xerr=errors, color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(label)
    return picture


def histogram(values: Sequence[float], label: str, mark: float | None = None) -> Picture:
    """Return how often values occur, on an axis called `label`, with a line at `mark`."""
    picture, axes = figure()
    axes.hist(values, bins=40, color=COLOURS[0])
    if mark is not None:
        axes.axvline(mark, color=COLOURS[1], linestyle="--")
    axes.set(xlabel=label, ylabel=text("reviews"))
    return picture


def confusion(labels: Sequence[int], predictions: Sequence[int]) -> Picture:
    """Return the counts of each label (rows) and predicted class (columns)."""
    classes = sorted(set(labels) | set(predictions))
    counts = np.array(
        [
            [np.sum((np.asarray(labels) == a) & (np.asarray(predictions) == p)) for p in classes]
            for a in classes
        ]
    )
    picture, axes = figure(3.8, 3)
    axes.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    names = [text(str(c)) for c in classes]
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel=text("predicted"), ylabel=text("actual"))
    return picture


def calibration(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> Picture:
    """Return the share of right answers against the probability the model gave them.

    Args:
        confidence: probability of the predicted class, (N,), from 1/C to 1.
        correct: whether that class was right, (N,).
        bins: of equal numbers of reviews.
    """
    picture, axes = figure(4, 3)
    order = np.array_split(np.argsort(confidence), bins)
    mean = [np.mean(np.asarray(confidence)[b]) for b in order if len(b)]
    right = [np.mean(np.asarray(correct)[b]) for b in order if len(b)]
    low = min(*mean, *right)
    axes.plot([low, 1], [low, 1], ":", color="#777777", label=text("perfectly_calibrated"))
    axes.plot(mean, right, "o-", color=COLOURS[0], label=text("model"))
    axes.set(xlabel=text("confidence"), ylabel=text("share_correct"))
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
    lines = axes.contour(  # at step 0 every length is 1
        steps[1:],
        radii,
        logs[:, 1:],
        levels=[-3, 0, 3],
        colors="black",
        linestyles=[":", "-", "--"],
    )
    axes.clabel(lines, fmt=lambda level: f"{10**level:g}", fontsize=8)
    if mark:
        axes.plot(*mark, "o", color="white", markeredgecolor="black", markersize=8)
    bar = picture.colorbar(mesh, ax=axes, extend="both", label=text("gradient_length"))
    bar.set_ticks([-8, -4, 0, 4, 8], labels=["1e-8", "1e-4", "1", "1e4", "1e8"])
    axes.set(xlabel=text("steps_back"), ylabel=text("spectral_radius"))
    return picture


@cache
def chinese_font() -> str:
    """Return the family name of a font with Chinese characters, for `fontfamily=[…]`.

    One of the system's is taken if there is one, else the free font inside the package zhplot,
    which is registered as a file (importing zhplot would change every figure's font).
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    for name in _CHINESE_FONTS:
        if name in installed:
            return name
    package = importlib.util.find_spec("zhplot")
    file = Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    font_manager.fontManager.addfont(file)
    return font_manager.FontProperties(fname=file).get_name()


def use_chinese_font() -> None:
    """Let every figure drawn from now on show Chinese characters beside Latin ones."""
    import matplotlib

    matplotlib.rcParams["font.family"] = ["DejaVu Sans", chinese_font()]
