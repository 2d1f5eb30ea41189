"""How far back a gradient reaches, as a panel."""

from functools import cache

import ipywidgets
import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import numpy_rnn, plots
from fedlab_helpers.lessons.words import say

RADII = np.linspace(0.25, 2.5, 46)
SCALES = (0.0, 0.3, 1.0)
LONGEST = 60


@cache
def _lengths(scale: float) -> np.ndarray:
    return numpy_rnn.gradient_map(RADII, LONGEST, numpy_rng(0, "map"), scale=scale)


class GradientPanel(ipywidgets.VBox):
    """How far back a gradient reaches, for a spectral radius, a distance and a size of the inputs.

    Its controls are `radius`, `steps` and `scale`; `length` is the value that they point at.
    """

    def __init__(self):
        wide = {
            "style": {"description_width": "11em"},
            "layout": ipywidgets.Layout(width="34em"),
        }
        self.radius = ipywidgets.SelectionSlider(
            options=[(f"{radius:.2f}", radius) for radius in RADII.tolist()],
            value=RADII.tolist()[15],
            description=say("spectral_radius"),
            **wide,
        )
        self.steps = ipywidgets.IntSlider(20, 0, LONGEST, description=say("steps_back"), **wide)
        self.scale = ipywidgets.ToggleButtons(
            options=[f"{scale:g}" for scale in SCALES],
            value="1",
            description=say("inputs_scale"),
            style={"description_width": "11em", "button_width": "4em"},
            layout=wide["layout"],
        )
        self.image = ipywidgets.Image(format="png", width=540, height=320)
        self.readout = ipywidgets.Label()
        controls = {"fl-radius": self.radius, "fl-steps": self.steps, "fl-scale": self.scale}
        for name, control in controls.items():
            control.add_class(name)
            control.observe(self._draw, "value")
        self.readout.add_class("fl-readout")
        hint = ipywidgets.Label(say("re_run"))
        super().__init__([*controls.values(), self.image, self.readout, hint])
        self._draw()

    @property
    def length(self) -> float:
        """How long the gradient is at the chosen place; it began with length 1."""
        row = int(np.abs(RADII - self.radius.value).argmin())
        return float(_lengths(float(self.scale.value))[row, self.steps.value])

    def _draw(self, change: object = None) -> None:
        scale = float(self.scale.value)
        mark = self.steps.value, self.radius.value
        self.image.value = plots.gradient_map(_lengths(scale), RADII, mark)._repr_png_()
        self.readout.value = say(
            "gradient_readout",
            steps=self.steps.value,
            radius=self.radius.value,
            scale=scale,
            length=self.length,
        )
