"""The chart and the table of a lab, drawn in the browser: hover, hide, sort, name, drop.

bqplot and anywidget, with a script of our own, were tried in a real JupyterLab, ten curves drawn
anew three times a second for five minutes. Both kept up, without a network, and suited the dark
theme. The choice fell on anywidget: 0.3 MB to install instead of 0.9, while bqplot tells under the
pointer which line it is but none of its values, and its legend hides nothing.
"""

from pathlib import Path

import anywidget
import traitlets

from fedlab_helpers.lessons.words import say

_HERE = Path(__file__).parent
_WORDS = (
    "axis", "client", "shared_model", "mean_own", "better_off", "worse_off", "show", "hide",
    "name", "rename", "drop", "round",
)  # fmt: skip


class Board(anywidget.AnyWidget):
    """What there is to see of some runs; a reader's clicks change `hidden` and `x`, and come as
    messages: {"do": "drop" or "rename", "key": …, "name": …}.

    Each of `runs` has key, name, colour, line, newest and running; points, low and high: column ->
    values; cells: column -> [what it is sorted by, its text]. A pane has y (a column), label, form
    ("share" or ""), log, levels ({name, value}) and marks ({name, x's column, value}).
    """

    _esm = _HERE / "board.js"
    _css = _HERE / "board.css"
    panes = traitlets.List().tag(sync=True)
    xs = traitlets.List().tag(sync=True)  # {key, label, log, whole}
    x = traitlets.Unicode().tag(sync=True)
    runs = traitlets.List().tag(sync=True)
    columns = traitlets.List().tag(sync=True)  # {key, label, text}
    bars = traitlets.Dict().tag(sync=True)  # title, groups, shared, own: of one run
    hidden = traitlets.List().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)  # text, state, done (a share), left
    words = traitlets.Dict().tag(sync=True)

    def __init__(self, **options: object):
        super().__init__(words={key: say(key) for key in _WORDS}, **options)
