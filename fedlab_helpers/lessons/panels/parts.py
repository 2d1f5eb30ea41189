"""What panels are made of: controls that a driver finds by their class, and tables."""

from collections.abc import Callable
from math import ceil, floor, log10

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.words import text

_FORMATS = {
    "final_accuracy": "{:.1%}",
    "best_accuracy": "{:.1%}",
    "rounds_to_target": "{:.0f}",
    "megabytes_to_target": "{:.0f}",
    "seconds": "{:.1f}",
    "mean_shared": "{:.1%}",
    "mean_own": "{:.1%}",
    "gain": "{:+.1f}",
    "worst_own": "{:.1%}",
    "kilobytes_up": "{:.3g}",
    "factor": "{:.0f}",
}


def named(name: str, control: ipywidgets.DOMWidget) -> ipywidgets.DOMWidget:
    """Return the control with its name as a class: "fl-server-rate"."""
    return control.add_class("fl-" + name.replace("_", "-"))


def button(
    name: str, pressed: Callable[[ipywidgets.Button], None], **options: object
) -> ipywidgets.Button:
    """Return a button that calls `pressed` with itself."""
    made = ipywidgets.Button(description=text(name), **options)
    made.on_click(pressed)
    return named(name, made)


def powers(
    default: float, low: float, high: float, **options: object
) -> ipywidgets.SelectionSlider:
    """Return a slider over 1, 2, 3 and 5 times the powers of ten, from `low` to `high`.

    A slider over all numbers, on a logarithmic scale, rounds the value that it is given.
    """
    exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
    values = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 3, 5)]
    shown = [(f"{value:g}", value) for value in values if low <= value <= high]
    return ipywidgets.SelectionSlider(options=shown, value=default, **options)


def table_html(table: pd.DataFrame) -> str:
    """Return a comparison's table as a page shows it; a dash where there is no value."""
    shown = table.astype(object)
    for name, form in _FORMATS.items():
        if name in shown:
            shown[name] = ["–" if pd.isna(v) else form.format(v) for v in table[name]]
    page = shown.rename(columns=text).to_html(index=False, border=0, justify="left")
    for cell in ("th", "td"):
        page = page.replace(f"<{cell}>", f'<{cell} style="padding-right: 1em">')
    return f'<div style="font-size: 90%; line-height: 1.3; overflow-x: auto">{page}</div>'
