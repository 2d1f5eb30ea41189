"""What was read off an update, beside what was written."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape

import numpy as np

from fedlab_helpers.lessons.plots.runs import COLOURS, Picture, chinese_font, figure, literal, look
from fedlab_helpers.lessons.words import say


class Page:
    """HTML that shows itself in a notebook, and is plain text elsewhere."""

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def word_rows(sizes: Mapping[str, Sequence[float]]) -> Picture:
    """Return the length of each word's row, by the word's place in the review, on a log scale; one
    line for each name."""
    picture, axes = figure(5.4, 3)
    for place, (name, values) in enumerate(sizes.items()):
        axes.semilogy(np.arange(1, len(values) + 1), values, label=literal(name), **look(place))
    axes.set(xlabel=say("place_in_review"), ylabel=say("row_gradient"))
    axes.legend(frameon=False)
    return picture


def reading(
    written: Sequence[str],
    read: Sequence[str],
    certified: bool,
    glosses: Mapping[str, str] | None = None,
) -> Page:
    """Return a review word by word and what was read of it: a word in its place is framed, one
    that is out of place is struck out, one that is missing has a dash.

    Args:
        written: the review's words.
        read: the words that an attacker reads.
        certified: whether the attacker knows that they are right.
        glosses: word -> what it means; shown below each word that has one.
    """
    glosses = glosses or {}
    matched = SequenceMatcher(None, written, read, autojunk=False)
    rows: list[tuple[str, str, bool]] = []
    for kind, i, j, k, m in matched.get_opcodes():
        for at in range(max(j - i, m - k)):
            before = written[i + at] if i + at < j else ""
            after = read[k + at] if k + at < m else ""
            rows.append((before, after, kind == "equal"))
    cells = "".join(_cell(*row, glosses) for row in rows)
    verdict = say("certified") if certified else say("not_certified")
    body = f'<div class="fl-reading" style="{_ROW}">{_head()}{cells}</div>'
    text = f"{' '.join(written)}\n{' '.join(read)}\n{verdict}"
    return Page(f"{body}<p>{escape(verdict)}</p>", text)


def readings(pairs: Sequence[tuple[Sequence[str], Sequence[str], bool]]) -> Picture:
    """Return the same as a figure, without glosses: for each pair its words, those read below."""
    widest = max(sum(map(_width, row)) for words in pairs for row in words[:2])
    picture, axes = figure(1.2 + 0.11 * widest, 0.3 + 0.62 * len(pairs))
    axes.set_axis_off()
    font = chinese_font()
    for line, (written, read, certified) in enumerate(pairs):
        for below, words in enumerate((written, read)):
            fine = not below or certified or list(words) == list(written)
            colour = "black" if not below else COLOURS[0] if fine else COLOURS[1]
            at = 0.0
            for word in words:
                place = {"va": "top", "color": colour, "fontfamily": [font], "size": 11}
                axes.text(at, -2.4 * line - below, literal(word), **place)
                at += _width(word)
    axes.set(xlim=(0, widest), ylim=(-2.4 * len(pairs), 0.2))
    return picture


def _width(word: str) -> int:
    """Return how wide a word is drawn, with a space: Chinese characters are two letters wide."""
    return 1 + sum(2 if ord(letter) > 0x2E80 else 1 for letter in word)


_ROW = "display: flex; flex-wrap: wrap; gap: 2px 4px; line-height: 1.5"
_COLUMN = "display: flex; flex-direction: column; align-items: center; padding: 0 3px"
_RIGHT = "border: 1px solid #0072b2; border-radius: 3px; padding: 0 3px"
_WRONG = "text-decoration: line-through; color: #d55e00; padding: 0 4px"
_SMALL = "font-size: 75%; opacity: 0.8"


def _head() -> str:
    names = "".join(f"<span><b>{escape(say(key))}</b></span>" for key in ("written", "read"))
    return f'<span style="{_COLUMN}; align-items: flex-start">{names}</span>'


def _cell(written: str, read: str, right: bool, glosses: Mapping[str, str]) -> str:
    shown = f'<span style="{_RIGHT if right else _WRONG}">{escape(read or "–")}</span>'
    gloss = glosses.get(written or read, "")
    small = f'<span style="{_SMALL}">{escape(gloss) or "&nbsp;"}</span>' if glosses else ""
    return f'<span style="{_COLUMN}"><span>{escape(written or "–")}</span>{shown}{small}</span>'
