"""Bars and cells over one horizontal axis, drawn in the browser: values under the pointer, and a
mark that a pointer moves.

The picture travels as its values, some kilobytes, and a moved mark as two numbers. A PNG of the
same took 0.14 s to draw, so that it lagged behind a slider that is dragged.
"""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from fedlab_helpers.lessons.panels.board import DRAWING

_HERE = Path(__file__).parent
ABOVE, BELOW = (0, 114, 178), (213, 94, 0)  # blue and orange, as in `SortableTable`


class Maps(anywidget.AnyWidget):
    """Panes above each other; the first row of each is on top.

    `shown` has x {label, columns, ticks: [column, text] each}, key {label, names, colours}, and
    panes, each of them {label, height in pixels, tips: a row of texts for all its rows, or one for
    each row} with either bars (a value for each column) or rows, pixels (of `pixels`), ticks
    ([row, text] each) and lines ({name, line, points: [column, row] each}). `mark` is a column and
    a row of the only pane: where a marker stands, and where a press or a drag puts it.
    """

    _esm = DRAWING + (_HERE / "maps.js").read_text(encoding="utf-8")
    _css = _HERE / "maps.css"
    shown = traitlets.Dict().tag(sync=True)
    mark = traitlets.List().tag(sync=True)
    pale = traitlets.Bool().tag(sync=True)  # not of the controls as they stand


def pixels(
    values: np.ndarray,
    above: tuple[int, int, int] = ABOVE,
    below: tuple[int, int, int] = BELOW,
) -> bytes:
    """Return the colours of values, (R, C), as bytes, (R, C, 4): red, green, blue, opacity.

    Opacity is the distance from 0, at most 1: at 0 is the page's own background, light or dark.

    Args:
        values: from -1 to 1; what lies beyond is drawn as the end.
        above, below: colours of values above and below 0.
    """
    opacity = 255 * np.abs(values).clip(0, 1)
    colours = np.where(values[..., None] < 0, below, above)
    return np.dstack([colours, opacity]).round().astype(np.uint8).tobytes()
