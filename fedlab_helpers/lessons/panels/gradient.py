"""How far back a gradient reaches, as a panel."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import ipywidgets
import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import numpy_rnn, plots
from fedlab_helpers.lessons.panels.explorer import Explorer, View
from fedlab_helpers.lessons.panels.maps import pixels
from fedlab_helpers.lessons.panels.parts import named, slider, steps
from fedlab_helpers.lessons.words import say

RADII = np.linspace(0.25, 2.5, 46)
SCALES = (0.0, 0.3, 1.0)
LONGEST = 60
_ONE, _LARGE = RADII.tolist()[15], RADII.tolist()[25]  # 1 and 1.5
_ENDS = 8  # powers of ten that the colours reach, down and up
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_GROWS, _FADES = (224, 116, 18), (126, 82, 186)  # the orange and the purple of the still picture


@cache
def _lengths(scale: float) -> np.ndarray:
    return numpy_rnn.gradient_map(RADII, LONGEST, numpy_rng(0, "map"), scale=scale)


@cache
def _shown(scale: float) -> dict[str, Any]:
    """Return the map as `Maps` has it, the largest radius on top."""
    lengths, rows = _lengths(scale)[::-1], [f"{radius:.2f}" for radius in RADII[::-1]]
    tips = [
        [
            say("gradient_tip", steps=back, radius=radius, times=_times(length))
            for back, length in enumerate(row)
        ]
        for radius, row in zip(rows, lengths, strict=True)
    ]
    pane = {
        "label": say("map_radius"),
        "height": 260,
        "rows": len(rows),
        "ticks": [[row, rows[row]] for row in range(0, len(rows), 5)],
        "tips": tips,
        "pixels": pixels(np.log10(lengths) / _ENDS, _GROWS, _FADES),
        "lines": _levels(scale),
    }
    ticks = [[back, str(back)] for back in range(0, LONGEST + 1, 10)]
    colours = [f"rgb{_FADES}", "transparent", f"rgb{_GROWS}"]
    key = {"label": say("gradient_length"), "names": ["10⁻⁸", "10⁸"], "colours": colours}
    x = {"label": say("steps_back"), "columns": LONGEST + 1, "ticks": ticks}
    return {"x": x, "panes": [pane], "key": key}


def _levels(scale: float) -> list[dict[str, Any]]:
    """Return the lines of the still picture, in columns and rows; the rightmost piece of each
    bears its name."""
    drawn = plots.gradient_levels(plots.figure()[1], _lengths(scale), RADII)
    step, names, found = RADII[1] - RADII[0], ("0.001", "1", "1000"), []
    for name, line, pieces in zip(names, (":", "-", "--"), drawn.allsegs, strict=True):
        pieces = [piece for piece in pieces if len(piece)]  # a level that is not reached has none
        for place, piece in enumerate(sorted(pieces, key=lambda piece: -piece[:, 0].max())):
            points = [[x, (RADII[-1] - y) / step] for x, y in piece.tolist()]
            found.append({"name": "" if place else name, "line": line, "points": points})
    return found


class GradientPanel(Explorer):
    """How far back a gradient reaches, for a spectral radius, a distance and a size of the inputs.

    Its controls are `radius`, `steps` and `scale`; `length` is the value that they point at. A
    press or a drag in the map moves the first two.
    """

    name = "gradient"
    tries: Mapping[str, Mapping[str, object]] = {
        "try_usual": {"radius": _ONE, "steps": 20, "scale": "1"},
        "try_silent": {"radius": _ONE, "steps": 40, "scale": "0"},
        "try_explode": {"radius": _LARGE, "steps": 40, "scale": "0"},
        "try_through": {"radius": _LARGE, "steps": 60, "scale": "1"},
    }

    def __init__(self):
        radii = RADII.tolist()
        shown = [(f"{radius:.2f}", radius) for radius in radii]
        self.radius = steps("radius", shown, _ONE, say("spectral_radius"))
        self.steps = slider("steps", 20, 0, LONGEST)
        look = {"style": {"description_width": "8.5em", "button_width": "4em"}}
        scales = {"options": [f"{scale:g}" for scale in SCALES], "value": "1"}
        scale = ipywidgets.ToggleButtons(description=say("inputs_scale"), **scales, **look)
        self.scale = named("scale", scale)
        for each in SCALES:  # now, lest the first press of another size is waited for
            _shown(each)
        super().__init__({"radius": self.radius, "steps": self.steps, "scale": self.scale})
        self.map.observe(self._point, "mark")

    @property
    def length(self) -> float:
        """How long the gradient is at the chosen place; it began with length 1."""
        return float(_lengths(float(self.scale.value))[self._row(), self.steps.value])

    def _row(self) -> int:
        return int(np.abs(RADII - self.radius.value).argmin())

    def _point(self, change: dict[str, Any]) -> None:
        """Let the controls follow the mark."""
        column, row = change["new"]
        if (column, row) != (self.steps.value, len(RADII) - 1 - self._row()):
            self._moved = True
            with self._at_once():
                self.steps.value, self.radius.value = column, RADII.tolist()[-1 - row]

    def _look(self) -> View:
        scale, back, row = float(self.scale.value), self.steps.value, self._row()
        lengths = _lengths(scale)
        short = np.flatnonzero(lengths[row] < 1e-3)
        told = {
            "steps": back,
            "radius": self.radius.value,
            "scale": scale,
            "times": _times(self.length),
            "loud_times": _times(_lengths(SCALES[-1])[row, back]),
            "fades": say("after_steps", steps=short[0]) if len(short) else say("not_in_map"),
            "lasting": _lasting(scale, back),
            "quiet_lasting": _lasting(SCALES[0], back),
        }
        return View(_shown(scale), told, (back, len(RADII) - 1 - row))

    def _still(self) -> plots.Picture:
        mark = self.steps.value, self.radius.value
        return plots.gradient_map(_lengths(float(self.scale.value)), RADII, mark)


def _lasting(scale: float, back: int) -> float:
    """Return the radius at which a gradient is nearest to as long as it was."""
    return float(RADII[np.abs(np.log(_lengths(scale)[:, back])).argmin()])


def _times(length: float) -> str:
    """Return how many times as long, with two digits: 1.3 times, 0.025 times, 2.5 × 10⁶ times."""
    number = f"{float(f'{length:.2g}'):g}"
    if not 1e-3 <= length < 1e4:
        digits, power = f"{length:.1e}".split("e")
        number = f"{digits} × 10{str(int(power)).translate(_RAISED)}"
    return say("times", number=number.replace(" ", "\N{NO-BREAK SPACE}"))
