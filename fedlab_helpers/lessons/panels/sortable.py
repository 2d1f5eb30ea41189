"""A large table: readable names, columns in colour, sorted by a click on a column's head."""

from collections.abc import Collection, Mapping
from html import escape
from numbers import Number
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets

from fedlab_helpers.lessons.words import called, say

_HERE = Path(__file__).parent


class SortableTable(anywidget.AnyWidget):
    """A frame as a table; where no kernel runs, the same table stays, in the order of its rows.

    Args:
        frame: its index names the rows, as `words.called` has it; a number missing is a dash.
        digits: decimals of numbers, of all columns or by column's name (1 of one that is not
            named).
        coloured: columns in which a cell is the darker, the farther its number is from zero: blue
            above, orange below.
    """

    _esm = _HERE / "sortable.js"
    _css = _HERE / "board.css"
    html = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        frame: pd.DataFrame,
        digits: int | Mapping[str, int] = 1,
        coloured: Collection[str] = (),
    ):
        super().__init__(html=_page(frame, digits, coloured))

    def _ipython_display_(self, **options: Any) -> None:
        from IPython.display import display

        display({"text/html": self.html, "text/plain": say("sortable")}, raw=True)
        living = anywidget.AnyWidget._repr_mimebundle_(self, **options)[0]
        display(living | {"text/plain": say("living")}, raw=True)


def _page(frame: pd.DataFrame, digits: int | Mapping[str, int], coloured: Collection[str]) -> str:
    decimals = digits if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    corner = "" if frame.index.name is None else frame.index.name
    heads = [called(name) for name in (corner, *frame.columns)]
    head = "".join(f"<th>{escape(said)}</th>" for said in heads)
    largest = {name: frame[name].abs().max() for name in coloured}
    rows: list[str] = []
    for label, values in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = [
            _cell(value, decimals.get(name, 1), largest.get(name))
            for name, value in zip(frame.columns, values, strict=True)
        ]
        sorted_by = f' data-value="{label}"' if isinstance(label, Number) else ""
        rows.append(f"<tr><th{sorted_by}>{escape(called(label))}</th>{''.join(cells)}</tr>")
    body = "".join(rows)
    return f'<table class="fl-sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(value: Any, digits: int, largest: float | None) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if pd.isna(value):
        return "<td>–</td>"
    text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
    style = "text-align: right"
    if largest:
        colour = "0, 114, 178" if value > 0 else "213, 94, 0"
        style += f"; background: rgba({colour}, {0.55 * abs(value) / largest:.2f})"
    return f'<td data-value="{value}" style="{style}">{text}</td>'
