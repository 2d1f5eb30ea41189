"""The chart and the table of a lab, drawn in the browser: hover, hide, sort, name, drop.

bqplot and anywidget, with a script of our own, were tried in a real JupyterLab, ten curves drawn
anew three times a second for five minutes. Both kept up, without a network, and suited the dark
theme. The choice fell on anywidget: 0.3 MB to install instead of 0.9, while bqplot tells under the
pointer which line it is but none of its values, and its legend hides nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import anywidget
import traitlets

from fedlab_helpers.lessons.words import say

_HERE = Path(__file__).parent
DRAWING = (_HERE / "drawing.js").read_text(encoding="utf-8")
_WORDS = (
    "axis", "client", "shared_model", "own_model", "better_off", "worse_off", "show", "hide",
    "name", "rename", "drop", "round",
)  # fmt: skip


class Board(anywidget.AnyWidget):
    """What there is to see of some runs; a reader's clicks change `hidden` and `x`, and come as
    messages: {"do": "drop" or "rename", "key": …, "name": …}.

    Each of `runs` has key, name, colour, line, newest and running; points, low and high: column ->
    values; cells: column -> [what it is sorted by, its text]. A pane has y (a column), label, form
    ("share" or ""), log, lowest and highest (values that the axis does not go beyond, unless a run
    ends there), levels ({name, value}), marks ({name, x's column, value}) and about, a line below.
    """

    _esm = DRAWING + (_HERE / "board.js").read_text(encoding="utf-8")
    _css = _HERE / "board.css"
    panes = traitlets.List().tag(sync=True)
    xs = traitlets.List().tag(sync=True)  # {key, label, heading, log, whole}
    x = traitlets.Unicode().tag(sync=True)
    runs = traitlets.List().tag(sync=True)
    columns = traitlets.List().tag(sync=True)  # {key, label, text}
    bars = traitlets.Dict().tag(sync=True)  # title, groups, shared, own: of one run
    hidden = traitlets.List().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)  # parts, state, done (a share), left
    words = traitlets.Dict().tag(sync=True)

    def __init__(self, **options: object):
        super().__init__(words={key: say(key) for key in _WORDS}, **options)

    @property
    def text(self) -> str:
        """What is told, a line a part."""
        return "\n".join(text for _, text in self.status.get("parts", ()))

    def tell(
        self, text: str, state: str = "idle", below: Mapping[str, str] | None = None, **more: object
    ) -> None:
        """Tell how things stand; `below` are texts on lines of their own, by their headings, which
        `words` has, and `more` as in `status`."""
        parts = [["", text], *([say(name), each] for name, each in (below or {}).items())]
        self.status = {"parts": parts, "state": state, **more}
