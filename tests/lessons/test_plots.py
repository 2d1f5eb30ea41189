"""Figures: what is drawn is what was given, and Chinese characters are not boxes."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager, image
from matplotlib.colors import to_rgba
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.runs import Run
from fedlab_helpers.lessons.words import say
from fedlab_helpers.recipe import Recipe


def record(number: int, **metrics: float) -> RoundRecord:
    return RoundRecord(number, (0,), 4, 2, {0: 0.5}, {}, 1_000_000, 500_000, 0.1, metrics)


HISTORY = History((record(1, accuracy=0.5), record(2), record(3, accuracy=0.7)))


def pixels(picture: plots.Picture) -> np.ndarray:
    return image.imread(io.BytesIO(picture._repr_png_()))


def test_a_picture_is_a_card_of_its_size_with_a_margin_and_round_corners():
    picture, axes = plots.figure(5, 3)
    axes.imshow([[1.0]], cmap="Blues", vmin=0, vmax=1)
    drawn = pixels(picture)
    assert drawn.shape == (316, 516, 4)
    corner, *paper = drawn[0, 0], drawn[0, 258], drawn[12, 12]
    assert corner[3] == 0  # what lies below shows: light or dark
    for place in paper:
        assert np.allclose(place, to_rgba("#e9e9e5"), atol=0.002)
    assert drawn[158, 258, 2] > drawn[158, 258, 0] + 0.2  # the blue square
    beside = drawn[150, 80]  # within the axes, beside the square, no white box
    assert np.allclose(beside, to_rgba("#e9e9e5"), atol=0.002)


def test_curves_draw_each_evaluated_round_and_each_level():
    axes = plots.curves({"a": HISTORY, "b": HISTORY.to_frame()}, levels={"central": 0.8}).axes[0]
    for line in axes.lines[:2]:
        assert line.get_xdata().tolist() == [1, 3]
        assert line.get_ydata().tolist() == [0.5, 0.7]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "central"]
    assert len({line.get_linestyle() for line in axes.lines[:2]}) == 2


def test_curves_over_megabytes_sum_both_ways():
    line = plots.curves({"a": HISTORY}, x="total_megabytes").axes[0].lines[0]
    assert line.get_xdata().tolist() == pytest.approx([1.5, 4.5])


def test_live_curve_updates_one_display(monkeypatch):
    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("update", picture))

    def display(picture, display_id):
        shown.append(("display", picture))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    curve = plots.LiveCurve(rounds=3)
    for one in HISTORY:
        curve.add(one)
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert shown[-1][1].axes[0].get_title() == "round 3: accuracy 70.0%"
    assert shown[-1][1].axes[0].lines[0].get_ydata().tolist() == [0.5, 0.7]


def test_bars_stand_in_the_order_given_with_their_values():
    axes = plots.bars({"first": 0.25, "second": 0.5}, "accuracy", [0.1, 0.2]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.5]
    assert {"0.25", "0.5"} <= {text.get_text() for text in axes.texts}
    assert axes.yaxis_inverted()


def test_confusion_counts_labels_in_rows():
    axes = plots.confusion([0, 0, 1], [0, 1, 1]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "1", "0", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["negative", "positive"]


def test_calibration_compares_confidence_with_correctness():
    axes = plots.calibration([0.6, 0.6, 0.9, 0.9], [True, False, True, True], bins=2).axes[0]
    assert axes.lines[1].get_xdata() == pytest.approx([0.6, 0.9])
    assert axes.lines[1].get_ydata() == pytest.approx([0.5, 1.0])


def test_histogram_counts_every_value():
    axes = plots.histogram([1, 1, 2], "words", mark=2).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert axes.lines[0].get_xdata() == [2, 2]
    assert axes.texts[0].get_text().strip() == "2"


def test_the_chinese_font_has_the_characters():
    font = FT2Font(font_manager.findfont(plots.chinese_font(), fallback_to_default=False))
    assert all(font.get_char_index(ord(character)) for character in "联邦学习评论酒店")


def test_chinese_is_drawn_not_boxes(monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["DejaVu Sans"])
    plots.use_chinese_font()
    drawn = []
    for title in ("联", "邦"):  # missing characters would both be the same box, with a warning
        picture, axes = plots.figure()
        axes.set_title(title)
        drawn.append(pixels(picture))
    assert not np.array_equal(*drawn)


def test_a_word_that_is_not_in_the_table_is_shown_as_it_is():
    assert [say(word) for word in ("round", "{x}", "100%")] == ["round", "{x}", "100%"]
    assert say("starting", names="{x}") == "Starting: {x}"


def test_a_name_from_outside_may_be_called_as_a_sentence_of_a_panel():
    frame = pd.DataFrame({"size": [1, 2], "error": [0.4, 0.3]})
    axes = plots.curves({"mine": frame}, x="size", y="error").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("size", "error")


def formulas(picture):
    """Return the texts of a picture that Matplotlib takes for a formula."""
    picture.page()
    texts = [text for text in picture.findobj(Text) if "mathdefault" not in text.get_text()]
    return [t.get_text() for t in texts if t._preprocess_math(t.get_text())[1] is not False]


def test_two_dollars_in_a_name_are_no_formula():
    names, frame = ["$", "5$ to 10$", "$_$"], pd.DataFrame({"round": [1, 2], "$a$": [0.1, 0.2]})
    values = {name: [1.0, 2.0] for name in names}
    matrix = pd.DataFrame(np.eye(3))
    table = pd.DataFrame(
        {"factor": [2.0, 3.0], "lost": [0.1, 0.2], "±": [0.1, 0.1]}, index=names[:2]
    )
    series = {name: pd.Series([1.0, 2.0]) for name in names}
    attacks = {"protection": names, "attack": names, "value": 1.0, "chance": 0.0}
    for picture in (
        plots.curves(dict.fromkeys(names, frame), "$a$", levels={"$l$": 0.1}),
        plots.confusion([0, 1, 2], [0, 1, 1], names),
        plots.race([Run(1, Recipe(rounds=2), label="lr $10^$")], {"$l$": 0.5}),
        plots.bars(dict.fromkeys(names, 1.0), "$x$"),
        plots.frontier(dict.fromkeys(names, table)),
        plots.seed_dots({"$p$": values}, "$x$"),
        plots.gains({"$d$": values}),
        plots.cold_start({name: {1: 0.5} for name in names}),
        plots.client_dots(values),
        plots.client_bars([0.5] * 3, [0.6] * 3, names, "$t$"),
        plots.cosine_maps({"$m$": matrix}, groups={"$m$": names}),
        plots.slopes([0.5] * 3, {"$o$": [0.6] * 3}, names),
        plots.energy(values, "$x$"),
        plots.word_rows(values),
        plots.over_time(series, "$y$"),
        plots.left_of(pd.DataFrame(attacks)),
        plots.suggestions(["$$"], {"$k$": [("$w$", 0.5)]}, lambda word: "$g$"),
    ):
        assert formulas(picture) == []
    assert plots.bars({"5$": 1.0}, "x").axes[0].get_yticklabels()[0].get_text() == r"5\$"
