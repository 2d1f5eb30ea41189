"""What panels are made of: controls that a driver finds by their class, and forms of them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from html import escape
from math import ceil, floor, log10

import ipywidgets

from fedlab_helpers.lessons.words import ENGLISH, say

LOOK = {"style": {"description_width": "9em"}, "layout": ipywidgets.Layout(width="98%")}


def named(name: str, control: ipywidgets.DOMWidget) -> ipywidgets.DOMWidget:
    """Return the control with its name as a class: "fl-server-rate"."""
    return control.add_class("fl-" + name.replace("_", "-"))


def button(
    name: str, pressed: Callable[[ipywidgets.Button], None], **options: object
) -> ipywidgets.Button:
    """Return a button that calls `pressed` with itself, as wide as its words."""
    layout = ipywidgets.Layout(width="auto", min_width="5em", flex="0 0 auto")
    options.setdefault("description", ENGLISH.get(name, name))
    made = ipywidgets.Button(layout=layout, **options)
    made.on_click(pressed)
    return named(name, made)


def row(name: str, children: Iterable[ipywidgets.Widget]) -> ipywidgets.Box:
    """Return a row that wraps."""
    return ipywidgets.Box(list(children)).add_class("fl-row").add_class(f"fl-{name}")


def choice(name: str, values: Iterable[str], value: str) -> ipywidgets.Dropdown:
    """Return a menu of values, each called as `words` has it."""
    options = {"options": [(say(key), key) for key in values], "value": value}
    return named(name, ipywidgets.Dropdown(**options, description=say(name), **LOOK))


def box(name: str, value: bool) -> ipywidgets.Checkbox:
    """Return a box to tick."""
    return named(name, ipywidgets.Checkbox(value, description=say(name), indent=False))


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
    return named(name, ipywidgets.SelectionSlider(**more, **LOOK)).add_class("fl-of-a-list")


def explained(control: ipywidgets.Widget, about: str = "", **layout: str) -> ipywidgets.VBox:
    """Return the control with what it means below it."""
    said = ipywidgets.HTML(prose(about)).add_class("fl-help")
    place = ipywidgets.VBox([control, said], layout=ipywidgets.Layout(**layout))
    return place.add_class("fl-place")


def prose(text: str) -> str:
    """Return a text for a reader as HTML, without the marks that docstrings set around names."""
    return escape(text.replace("`", ""))


class Form(ipywidgets.VBox):
    """Controls in groups with a sentence each, which wrap where there is little room; below each
    control is what it means, or why it is off.

    Args:
        groups: name of a group -> names of its controls; `words` has the sentence as "group_…".
        controls: by name, each of which is an attribute, too.
        folded: groups that open by a button.
    """

    def __init__(
        self,
        groups: Mapping[str, Iterable[str]],
        controls: Mapping[str, ipywidgets.Widget],
        folded: Collection[str] = (),
    ):
        self.controls, self._places, self._act = dict(controls), {}, lambda: None
        self._warnings = {name: ipywidgets.HTML().add_class("fl-note") for name in controls}
        self._folds: dict[str, ipywidgets.ToggleButton] = {}  # of the controls that are folded
        super().__init__([self._group(name, groups[name], name in folded) for name in groups])
        self.add_class("fl-form")
        for name in self.controls:
            self._watch(name)

    def __getattr__(self, name: str) -> ipywidgets.Widget:
        try:
            return self.__dict__["controls"][name]
        except KeyError:
            raise AttributeError(name) from None

    def _group(self, name: str, controls: Iterable[str], folded: bool) -> ipywidgets.VBox:
        for each in controls:
            layout = {"flex": "1 1 19em", "min_width": "19em", "max_width": "30em"}
            self._places[each] = explained(self.controls[each], **layout)
            self.explain(each)
        inside = ipywidgets.Box([self._places[each] for each in controls]).add_class("fl-group")
        title = ipywidgets.HTML(say(f"group_{name}")).add_class("fl-heading")
        if not folded:
            return ipywidgets.VBox([title, inside])
        inside.layout.display = "none"
        say_more = {"description": say("more"), "tooltip": say("more"), "icon": "chevron-right"}
        opened = ipywidgets.ToggleButton(False, **say_more)
        named(f"open_{name}", opened).layout.width = "auto"

        def fold(change: dict) -> None:
            inside.layout.display = None if change["new"] else "none"
            opened.icon = "chevron-down" if change["new"] else "chevron-right"

        opened.observe(fold, "value")
        self._folds |= dict.fromkeys(controls, opened)
        return ipywidgets.VBox([row("fold", [opened, title]), inside])

    @property
    def values(self) -> dict[str, object]:
        """What each control says."""
        controls = self.controls.items()
        return {name: control.value for name, control in controls if control.has_trait("value")}

    def swap(self, name: str, control: ipywidgets.Widget) -> None:
        """Put another control in the place of one."""
        self.controls[name] = control
        self._places[name].children = (control, *self._places[name].children[1:])
        self._watch(name)

    def explain(self, name: str, off: str = "", about: str = "") -> None:
        """Say below a control what it means, and switch it off where `off` says why."""
        control, said = self.controls[name], self._places[name].children
        said[1].value = prose(off or about or say(f"{name}_help"))
        if control.has_trait("disabled"):
            control.disabled, control.tooltip = bool(off), off or about or say(f"{name}_help")
            mark = control.add_class if off else control.remove_class
            mark("fl-off")

    def warn(self, names: Collection[str], why: str) -> None:
        """Say below these controls, and below no other, what is wrong with them; a group of theirs
        that is folded opens."""
        for name, place in self._places.items():
            warned = name in names
            self._warnings[name].value = prose(why) if warned else ""
            place.children = (*place.children[:2], *([self._warnings[name]] if warned else []))
            if warned and name in self._folds:
                self._folds[name].value = True

    def on_change(self, act: Callable[[], None]) -> None:
        """Call `act` now, and after each change."""
        self._act = act
        act()

    def _watch(self, name: str) -> None:
        if self.controls[name].has_trait("value"):
            self.controls[name].observe(lambda change: self._act(), "value")
