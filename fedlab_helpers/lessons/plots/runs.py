"""Figures of runs: curves of one history or several, races, bytes against accuracy.

All figures are small, readable without colour, and shown by any notebook that ends a cell with one.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image, ImageDraw, ImageOps

from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons.runs import Run, title
from fedlab_helpers.lessons.words import ENGLISH, called, say

# Okabe and Ito's palette, which colour-blind readers can tell apart; styles serve grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dvx"
PAPER = "#e9e9e5"
PADDING = 8  # pixels around a figure
SIZE = 8.6, 3.4  # inches, of a panel's figure; always the same, so that a panel does not jump
HIGHEST_LOSS = 10  # a run that breaks down leaves the picture, and the others stay readable
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 1000, not 10³
_CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
)  # fmt: skip
_LOSSES = (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1, 2, 5, 10, 100)
_FACTORS = (1, 3, 10, 30, 100, 300, 1000, 3000)


class Picture(Figure):
    """A figure that draws itself in a notebook, without pyplot's global state.

    It lies on a card of `PAPER` with round corners, and looks the same in a light theme and in a
    dark one. A saved picture does not know the theme. Without a background, letters would have to
    be of a grey that is faint on both (4.4 to 1, at the best), and black lines would vanish in the
    dark; white glares. Four backgrounds were looked at on both: this one is a quiet card on each.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, facecolor=PAPER, **options)

    def page(self, **how: Any) -> bytes:
        """Return the card as a PNG file; `how` goes to `savefig`."""
        buffer = io.BytesIO()
        for axes in self.axes:
            axes.set_facecolor("none")
        self.savefig(buffer, format="png", dpi=100, pil_kwargs={"compress_level": 1}, **how)
        card = ImageOps.expand(Image.open(buffer).convert("RGB"), PADDING, PAPER)
        corners = Image.new("L", (4 * card.width, 4 * card.height))  # larger: for smooth edges
        whole = (0, 0, corners.width - 1, corners.height - 1)
        ImageDraw.Draw(corners).rounded_rectangle(whole, 4 * PADDING, fill=255)
        card.putalpha(corners.resize(card.size, Image.Resampling.BOX))
        kept = io.BytesIO()
        card.save(kept, "png")
        return kept.getvalue()

    def _repr_png_(self) -> bytes:
        return self.page()


def figure(width: float = 5, height: float = 3) -> tuple[Picture, Axes]:
    """Return an empty figure of this size, in inches, and its axes."""
    picture = Picture(figsize=(width, height), layout="constrained")
    return picture, bare(picture.add_subplot())


def panes(count: int, width: float, height: float) -> tuple[Picture, Sequence[Axes]]:
    """Return an empty figure of this size with panes beside each other, and these."""
    picture = Picture(figsize=(width, height), layout="constrained")
    row = picture.subplots(1, count, sharey=True, squeeze=False)[0]
    return picture, [bare(axes) for axes in row]


def bare(axes: Axes) -> Axes:
    """Take the lines above and to the right of a plot away, and return it."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def literal(name: object) -> str:
    """Return a name from outside so that Matplotlib writes it: two dollars are no formula."""
    return str(name).replace("$", r"\$")


def look(place: int) -> dict[str, str]:
    """Return colour, line and marker of the line at a place, from 0."""
    kinds = {"color": COLOURS, "linestyle": LINES, "marker": MARKERS}
    return {name: values[place % len(values)] for name, values in kinds.items()}


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
    for place, (name, history) in enumerate(series.items()):
        points, style = _frame(history)[[x, y]].dropna(), look(place) | {"marker": "o"}
        axes.plot(points[x], points[y], **style, markersize=3, label=literal(name))
    for (name, level), line in zip((levels or {}).items(), cycle(LINES[::-1]), strict=False):
        axes.axhline(level, color="#777777", linestyle=line, linewidth=1, label=literal(name))
    if x in ("round", "holders"):  # nothing is at half a round
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=literal(called(x)), ylabel=literal(called(y)))
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
    """One curve, redrawn in place as records come, which stays in the saved notebook; its axis
    has room for all `rounds`, and `y` and `levels` are as in `curves`."""

    def __init__(self, rounds: int, y: str = "accuracy", levels: Mapping[str, float] | None = None):
        self.rounds, self.y, self.levels = rounds, y, levels
        self.records: list[RoundRecord] = []
        self._display = None

    def add(self, record: RoundRecord) -> None:
        """Draw one more round."""
        from IPython.display import display

        self.records.append(record)
        picture = curves({called(self.y): self.records}, self.y, levels=self.levels)
        axes = picture.axes[0]
        axes.set_xlim(0.5, self.rounds + 0.5)
        if self.y in record.metrics:
            form = ".1%" if self.y == "accuracy" else ".3g"
            value = format(record.metrics[self.y], form)
            told = {"round": record.round, "measure": self.y, "value": value}
            axes.set_title(literal(say("progress", **told)), fontsize=10)
        if self._display is None:
            self._display = display(picture, display_id=True)
        else:
            self._display.update(picture)


def race(
    runs: Sequence[Run],
    levels: Mapping[str, float] | None = None,
    ticks: Mapping[int, int] | None = None,
) -> Picture:
    """Return three curves for each run: measure, loss, and megabytes sent, after each round.

    Args:
        runs: each keeps its colour, line and marker as others come and go.
        levels: values of the measure to compare with, as horizontal lines.
        ticks: number of a run -> clients that have trained in the present round: marks at the foot.
    """
    picture = Picture(figsize=SIZE)
    picture.subplots_adjust(left=0.05, right=0.99, top=0.92, bottom=0.37, wspace=0.19)
    panes = picture.subplots(1, 3)
    for axes, what in zip(panes, (measure_of(runs), "loss", "total_megabytes"), strict=True):
        bare(axes).xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(literal(validation(what)), fontsize=9)
        axes.set_xlabel(say("round"), fontsize=9)
        axes.tick_params(labelsize=8)
        for run in runs:
            known = [{"total_megabytes": r.total_bytes / 1e6, **r.measures} for r in run.results]
            at, values = [r.round for r in run.results], [each.get(what, nan) for each in known]
            axes.plot(at, values, markersize=3.5, label=literal(run.name), **look(run.number - 1))
    for (name, level), line in zip((levels or {}).items(), ("-", ":"), strict=False):
        panes[0].axhline(level, color="#777777", linestyle=line, linewidth=1, label=literal(name))
    for run in runs:
        _mark(panes[0], run, (ticks or {}).get(run.number, 0))
    panes[1].set_yscale("log")
    panes[1].yaxis.set_major_locator(FixedLocator(_LOSSES))
    panes[1].yaxis.set_minor_locator(NullLocator())
    panes[1].yaxis.set_major_formatter(PLAIN)
    if any(r.measures.get("loss", nan) < HIGHEST_LOSS for run in runs for r in run.results):
        panes[1].set_ylim(top=min(panes[1].get_ylim()[1], HIGHEST_LOSS))
    longest = max((run.recipe.rounds for run in runs), default=1)
    for axes in panes:
        axes.set_xlim(-0.03 * longest, 1.03 * longest)
    picture.legend(
        *panes[0].get_legend_handles_labels(),
        loc="upper center", bbox_to_anchor=(0.5, 0.25), ncols=3, frameon=False, fontsize=8,
    )  # fmt: skip
    return picture


def measure_of(runs: Sequence[Run]) -> str:
    """Return the name of what runs are judged by."""
    return next((next(iter(run.last.measures)) for run in runs if run.last), "accuracy")


def validation(what: str) -> str:
    """Return what an axis is called that shows something of validation examples."""
    known = f"race_{what}"
    return say(known) if known in ENGLISH else say("on_validation", what=what)


def _mark(axes: Axes, run: Run, trained: int) -> None:
    """Mark each client that has trained since the last result."""
    last = run.last.round if run.last else 0
    places = [last + (client + 1) / run.recipe.cohort for client in range(trained)]
    foot = 0.02 + 0.04 * ((run.number - 1) % 6)  # those of several runs above each other
    colour, height = look(run.number - 1)["color"], axes.get_xaxis_transform()
    axes.plot(places, [foot] * trained, "|", color=colour, transform=height)


def codecs(runs: Sequence[Run], goals: Sequence[Mapping[str, Any]] = ()) -> Picture:
    """Return the frontier of bytes and measure as far as runs have come: a path each, its end
    marked; `goals` are grey points of a study, each with its factor and value."""
    picture = Picture(figsize=SIZE)
    picture.subplots_adjust(left=0.08, right=0.5 if runs else 0.97, top=0.97, bottom=0.18)
    axes, measure = bare(picture.add_subplot()), measure_of(runs)
    at = [[goal[name] for goal in goals] for name in ("factor", "value")]
    axes.plot(*at, "o", color="#999999", markersize=4)
    for run in runs:
        trained = [result for result in run.results if result.round]
        factors, scores = [r.factor for r in trained], [r.score for r in trained]
        style = look(run.number - 1)
        marker = style.pop("marker")
        axes.plot(factors, scores, linewidth=0.8, alpha=0.5, **style)
        end = {"color": style["color"], "markersize": 7, "label": literal(title(run.recipe))}
        axes.plot(factors[-1:], scores[-1:], marker, **end)
    factor_axis(axes)
    axes.set_xlim(0.8, 5000)
    if measure == "accuracy":  # of other measures it is not known where they lie
        scores = [*at[1], *(result.score for run in runs for result in run.results)]
        axes.set_ylim(min(scores, default=0.45) - 0.01, max(scores, default=0.9) + 0.01)
    axes.set_ylabel(literal(validation(measure)), fontsize=9)
    axes.tick_params(labelsize=8)
    if runs:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=7.5)
    return picture


def factor_axis(axes: Axes, label: str = "factor") -> None:
    """Let the horizontal axis show a factor on a logarithmic scale; `label` is looked up."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_FACTORS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlabel(literal(called(label)), fontsize=9)


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
    rcParams["font.family"] = ["DejaVu Sans", chinese_font()]
