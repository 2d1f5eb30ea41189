"""How far back a gradient reaches, as a panel."""

from functools import cache

import ipywidgets
import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import numpy_rnn, plots
from fedlab_helpers.lessons.panels.explorer import Explorer
from fedlab_helpers.lessons.panels.parts import named, slider, steps
from fedlab_helpers.lessons.words import say

RADII = np.linspace(0.25, 2.5, 46)
SCALES = (0.0, 0.3, 1.0)
LONGEST = 60


@cache
def _lengths(scale: float) -> np.ndarray:
    return numpy_rnn.gradient_map(RADII, LONGEST, numpy_rng(0, "map"), scale=scale)


class GradientPanel(Explorer):
    """How far back a gradient reaches, for a spectral radius, a distance and a size of the inputs.

    Its controls are `radius`, `steps` and `scale`; `length` is the value that they point at.
    """

    def __init__(self):
        radii = RADII.tolist()
        shown = [(f"{radius:.2f}", radius) for radius in radii]
        self.radius = steps("radius", shown, radii[15], say("spectral_radius"))
        self.steps = slider("steps", 20, 0, LONGEST)
        look = {"style": {"description_width": "8.5em", "button_width": "4em"}}
        scales = {"options": [f"{scale:g}" for scale in SCALES], "value": "1"}
        scale = ipywidgets.ToggleButtons(description=say("inputs_scale"), **scales, **look)
        self.scale = named("scale", scale)
        controls = {"radius": self.radius, "steps": self.steps, "scale": self.scale}
        super().__init__("gradient", controls)

    @property
    def length(self) -> float:
        """How long the gradient is at the chosen place; it began with length 1."""
        row = int(np.abs(RADII - self.radius.value).argmin())
        return float(_lengths(float(self.scale.value))[row, self.steps.value])

    def _look(self) -> tuple[plots.Picture, str]:
        scale = float(self.scale.value)
        mark = self.steps.value, self.radius.value
        told = {"steps": mark[0], "radius": mark[1], "scale": scale, "length": self.length}
        sentence = say("gradient_readout", times=_times(self.length), **told)
        return plots.gradient_map(_lengths(scale), RADII, mark), sentence


def _times(length: float) -> str:
    """Return how many times as long, or which part: 1.3 times, 1/40, 2.5e6 times."""
    if 1e-4 <= length < 0.1:
        return f"1/{1 / length:.0f}"
    number = f"{length:.3g}" if 0.1 <= length < 1e4 else f"{length:.1e}".replace("e+0", "e")
    return say("times", number=number)
