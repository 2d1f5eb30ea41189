"""What keyboards propose after some words, as a figure."""

from collections.abc import Callable, Mapping, Sequence

from fedlab_helpers.lessons.plots.runs import COLOURS, Picture, chinese_font, figure, literal
from fedlab_helpers.lessons.words import called, say

_WIDE, _COLUMN = 1.15, 1.45  # inches: of a keyboard's name, and of a word
_SHOWN = 5  # words typed


def percent(share: float) -> str:
    """Return a share in whole percent."""
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def suggestions(
    words: Sequence[str],
    proposed: Mapping[str, Sequence[tuple[str, float]]],
    gloss: Callable[[str], str],
) -> Picture:
    """Return the last words typed, and below them a row for each keyboard: the words that it
    proposes, in another colour and underlined where no other keyboard does.

    Args:
        words: typed so far.
        proposed: what a keyboard is called -> its words, and how likely each is.
        gloss: says what a word means.
    """
    offered = [word for each in proposed.values() for word, _ in each]
    typed = [(word, gloss(word), False) for word in words[-_SHOWN:]]
    more = [("…", "", False)] if len(words) > _SHOWN else []
    rows: dict[str, list[tuple[str, str, bool]]] = {say("typed"): more + typed}
    for name, each in proposed.items():
        rows[called(name)] = [
            (
                word,
                f"{gloss(word)}  {percent(share)}",
                len(proposed) > 1 and offered.count(word) == 1,
            )
            for word, share in each
        ]
    most, font = max(map(len, rows.values())), chinese_font()
    picture, axes = figure(_WIDE + _COLUMN * most, 0.2 + 0.55 * len(rows))
    axes.set_axis_off()
    axes.set(xlim=(0, _WIDE + _COLUMN * most), ylim=(-len(rows), 0.1))
    for line, (name, cells) in enumerate(rows.items()):
        axes.text(0, -line - 0.35, literal(name), va="center", size=9, wrap=True)
        for place, (word, below, alone) in enumerate(cells):
            x = _WIDE + 0.35 + _COLUMN * place
            colour = COLOURS[1] if alone else "black"
            drawn = {"color": colour, "fontfamily": [font], "size": 12, "va": "center"}
            axes.text(x, -line - 0.2, literal(word), **drawn)
            axes.text(x, -line - 0.65, literal(below), va="center", size=8)
            if alone:
                axes.plot([x, x + 0.18 * len(word)], [-line - 0.42] * 2, color=colour)
    return picture
