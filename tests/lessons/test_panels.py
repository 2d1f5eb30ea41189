"""Panels: a moved control changes the figure and the line below it. The browser is not here."""

import numpy as np
import pytest

from fedlab_helpers.core import compute
from fedlab_helpers.lessons import numpy_rnn, panels, plots
from fedlab_helpers.lessons.panels.gradient import _lengths, _times


@pytest.fixture(scope="module")
def panel():
    return panels.GradientPanel()


@pytest.mark.parametrize("control", ["radius", "steps", "scale"])
def test_each_control_draws_anew(panel, control):
    widget = getattr(panel, control)
    assert widget.description
    assert widget._dom_classes[0] == f"fl-{control}"
    other = {"radius": panels.RADII.tolist()[20], "steps": 33, "scale": "0.3"}[control]
    before = panel.map.shown, panel.map.mark, panel.readout
    widget.value = other
    assert (panel.map.shown != before[0]) == (control == "scale")
    assert (panel.map.mark != before[1]) == (control != "scale")
    assert panel.readout != before[2]
    assert f"is {_times(panel.length)} as long" in panel.readout


@pytest.mark.parametrize(
    ("length", "said"),
    [(1.3, "1.3"), (1 / 40, "0.025"), (2.54e6, "2.5 × 10⁶"), (3e-7, "3.0 × 10⁻⁷"), (123.4, "120")],
)
def test_a_length_is_said_as_one_says_it(length, said):
    assert _times(length).replace("\N{NO-BREAK SPACE}", " ") == f"{said} times"


def test_the_value_is_that_of_the_map(panel):
    panel.radius.value, panel.steps.value = panels.RADII.tolist()[7], 12
    for scale in panels.SCALES:
        panel.scale.value = f"{scale:g}"
        rng = compute.numpy_rng(0, "map")
        lengths = numpy_rnn.gradient_map(panels.RADII, panels.LONGEST, rng, scale=scale)
        assert panel.length == lengths[7, 12]


def test_a_place_in_the_map_moves_the_controls(panel):
    drawn = []
    panel.board.observe(lambda change: drawn.append(change["new"]), "status")
    panel.map.mark = [7, 0]
    assert (panel.steps.value, panel.radius.value) == (7, 2.5)
    panel.map.mark = [8, 45]
    assert (panel.steps.value, panel.radius.value) == (8, 0.25)
    assert panel.map.mark == [8, 45]
    assert len(drawn) == 2  # once each, though two controls move


def test_the_map_has_each_length_its_colour_its_text_and_the_lines(panel):
    panel.scale.value, panel.radius.value, panel.steps.value = "0.3", 2.5, 60
    (pane,), lengths = panel.map.shown["panes"], _lengths(0.3)
    assert pane["tips"][45][60].startswith("60 steps back, radius 0.25: ")
    assert pane["tips"][0][60] == f"60 steps back, radius 2.50: {_times(panel.length)} as long"
    opacity = np.frombuffer(pane["pixels"], np.uint8).reshape(46, 61, 4)[::-1, :, 3]
    expected = 255 * np.abs(np.log10(lengths)).clip(0, 8) / 8
    assert np.abs(opacity - expected).max() <= 0.5
    (line,) = (each for each in pane["lines"] if each["name"] == "0.001")
    for column, row in line["points"]:
        near = lengths[round(45 - row), round(column)]
        assert 1e-5 < near < 1e-1


@pytest.mark.parametrize("name", panels.GradientPanel.tries)
def test_an_experiment_sets_all_controls_and_says_what_came(panel, name):
    panel._try(name)
    values = panel.tries[name]
    assert panel.form.values == values
    first, look = panel.readout.split("\n")
    assert first.startswith(f"{values['steps']} steps back, at radius {values['radius']:.2f}")
    panel.steps.value = 5
    again = panel.board.status["parts"]
    assert again[1] == ["Look for", look]  # the question stays
    assert again[2][0] == "Answer"
    panel._try(name)
    assert panel.readout == f"{first}\n{look}"


def test_experiments_say_the_maps_numbers(panel):
    loud, quiet = _lengths(1.0), _lengths(0.0)

    def answer(name):
        panel._try(name)
        panel.steps.value -= 1
        return panel.board.status["parts"][-1][1]

    assert f"after {np.flatnonzero(loud[15] < 1e-3)[0]} steps" in answer("try_usual")
    assert f"with inputs of size 1: {_times(loud[15, 40])}." in answer("try_silent")
    nearest = [panels.RADII[np.abs(np.log(each[:, 60])).argmin()] for each in (loud, quiet)]
    said = f"Nearest is {nearest[0]:.2f}; without inputs it is {nearest[1]:.2f}"
    assert said in answer("try_through")


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
