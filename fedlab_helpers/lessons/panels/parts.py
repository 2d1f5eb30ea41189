"""What panels are made of: controls that a driver finds by their class, and tables."""

from collections.abc import Callable, Iterable
from math import ceil, floor, log10

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.words import say

LOOK = {"style": {"description_width": "12em"}, "layout": ipywidgets.Layout(width="31em")}
_SHARES = ("final_accuracy", "best_accuracy", "mean_shared", "mean_own", "worst_own")
_FORMATS = {
    **dict.fromkeys(_SHARES, "{:.1%}"),
    **dict.fromkeys(("rounds_to_target", "megabytes_to_target", "factor"), "{:.0f}"),
    "seconds": "{:.1f}",
    "gain": "{:+.1f}",
}  # of columns; other numbers have three digits


def named(name: str, control: ipywidgets.DOMWidget) -> ipywidgets.DOMWidget:
    """Return the control with its name as a class: "fl-server-rate"."""
    return control.add_class("fl-" + name.replace("_", "-"))


def button(
    name: str, pressed: Callable[[ipywidgets.Button], None], **options: object
) -> ipywidgets.Button:
    """Return a button that calls `pressed` with itself."""
    made = ipywidgets.Button(description=say(name), **options)
    made.on_click(pressed)
    return named(name, made)


def choice(name: str, values: Iterable[str], value: str) -> ipywidgets.Dropdown:
    """Return a menu of values, each called as `words` has it."""
    options = {"options": [(say(key), key) for key in values], "value": value}
    return named(name, ipywidgets.Dropdown(**options, description=say(name), **LOOK))


def box(name: str, value: bool) -> ipywidgets.Checkbox:
    """Return a box to tick."""
    return named(name, ipywidgets.Checkbox(value, description=say(name), **LOOK))


def slider(
    name: str, default: float, low: float, high: float, form: str = ".2f", said: str = ""
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """Return a slider over whole numbers, if `default` is one, or over numbers."""
    options = {"min": low, "max": high, "description": said or say(name), **LOOK}
    if isinstance(default, int):
        return named(name, ipywidgets.IntSlider(default, **options))
    step = min(0.05 if high <= 1 else 0.1, (high - low) / 20)
    form = form if step >= 0.01 else ".2g"
    return named(name, ipywidgets.FloatSlider(default, step=step, readout_format=form, **options))


def powers(name: str, default: float, low: float, high: float) -> ipywidgets.SelectionSlider:
    """Return a slider over 1, 2, 3 and 5 times the powers of ten, from `low` to `high`.

    A slider over all numbers, on a logarithmic scale, rounds the value that it is given.
    """
    exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
    values = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 3, 5)]
    values = sorted({default, *(v for v in values if low <= v <= high)})
    return steps(name, [(f"{v:g}", v) for v in values], default)


def steps(
    name: str, options: list[tuple[str, float]], value: float, said: str = "", **more: object
) -> ipywidgets.SelectionSlider:
    """Return a slider over these values, each with what is shown for it, described by `said`."""
    more |= {"options": options, "value": value, "description": said or say(name)}
    return named(name, ipywidgets.SelectionSlider(**more, **LOOK))


class Explorer(ipywidgets.VBox):
    """Controls over a figure and a sentence, `readout`, drawn anew whenever a control moves."""

    def __init__(self, controls: list[ipywidgets.Widget], **size: int):
        self.image = ipywidgets.Image(format="png", **size)
        self.readout = named("readout", ipywidgets.Label())
        for control in controls:
            control.observe(self._draw, "value")
        super().__init__([*controls, self.image, self.readout, ipywidgets.Label(say("re_run"))])
        self._draw()

    _draw: Callable[..., None]


def table_html(table: pd.DataFrame) -> str:
    """Return a comparison's table as a page shows it; a dash where there is no value."""
    shown = table.astype(object)
    for name in shown:
        form = _FORMATS.get(name, "{:.3g}" if table[name].dtype.kind == "f" else "{}")
        shown[name] = ["–" if pd.isna(v) else form.format(v) for v in table[name]]
    page = shown.rename(columns=say).to_html(index=False, border=0, justify="left")
    for cell in ("th", "td"):
        page = page.replace(f"<{cell}>", f'<{cell} style="padding-right: 1em">')
    return f'<div style="font-size: 90%; line-height: 1.3; overflow-x: auto">{page}</div>'
