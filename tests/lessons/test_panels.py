"""Panels: a moved control changes the figure and the line below it. The browser is not here."""

import numpy as np
import pytest

from fedlab_helpers.core import compute
from fedlab_helpers.lessons import numpy_rnn, panels, plots
from fedlab_helpers.lessons.panels.gradient import _times


@pytest.fixture(scope="module")
def panel():
    return panels.GradientPanel()


@pytest.mark.parametrize("control", ["radius", "steps", "scale"])
def test_each_control_draws_anew(panel, control):
    widget = getattr(panel, control)
    assert widget.description
    assert widget._dom_classes[0] == f"fl-{control}"
    other = {"radius": panels.RADII.tolist()[20], "steps": 33, "scale": "0.3"}[control]
    before = bytes(panel.image.value), panel.readout
    widget.value = other
    assert bytes(panel.image.value[:4]) == b"\x89PNG"
    assert bytes(panel.image.value) != before[0]
    assert panel.readout != before[1]
    assert f"is {_times(panel.length)} as long" in panel.readout


@pytest.mark.parametrize(
    ("length", "said"),
    [(1.3, "1.3 times"), (1 / 40, "1/40"), (2.5e6, "2.5e6 times"), (3e-7, "3.0e-07 times")],
)
def test_a_length_is_said_as_one_says_it(length, said):
    assert _times(length) == said


def test_the_value_is_that_of_the_map(panel):
    panel.radius.value, panel.steps.value = panels.RADII.tolist()[7], 12
    for scale in panels.SCALES:
        panel.scale.value = f"{scale:g}"
        rng = compute.numpy_rng(0, "map")
        lengths = numpy_rnn.gradient_map(panels.RADII, panels.LONGEST, rng, scale=scale)
        assert panel.length == lengths[7, 12]


def test_the_heat_map_draws_each_value_and_the_mark():
    radii = np.array([0.5, 1.0, 2.0])
    lengths = radii[:, None] ** np.arange(30)
    axes = plots.gradient_map(lengths, radii, mark=(10, 1.0)).axes[0]
    drawn = np.asarray(axes.collections[0].get_array()).reshape(3, 30)
    assert np.allclose(drawn, np.log10(lengths))
    (point,) = axes.lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (10, 1.0)
    assert not point.get_clip_on()  # whole at the edge, too
    assert axes.get_xlabel() == "steps back in time"


def test_a_cell_shows_a_picture_and_the_panel(panel, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    panel._ipython_display_()
    still, living = shown
    assert still["image/png"][:4] == b"\x89PNG"
    assert "run this cell" in still["text/plain"]
    assert living["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
