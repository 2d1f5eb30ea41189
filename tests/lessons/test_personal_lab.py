"""The personal lab without a browser: its controls are set, its buttons pressed by calls."""

import math
from dataclasses import replace

import pytest

from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels import PersonalLab
from fedlab_helpers.lessons.panels.personal_lab import NUMBERS
from fedlab_helpers.lessons.runs import NUMBER_OF, End
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.recipe import Result

USUAL = PersonalLab.usual


def test_every_number_has_values_the_tries_among_them():
    for name, method in METHODS.items():
        assert (name in NUMBER_OF) == bool(method.tries), name
        assert set(method.tries) <= set(NUMBERS.get(NUMBER_OF.get(name), ())), name
        assert {name, *NUMBER_OF.values()} <= ENGLISH.keys()


def test_the_panel_opens_as_usual_and_each_method_brings_its_number(small_task):
    panel = PersonalLab(small_task)
    assert panel._still()._repr_png_()[:4] == b"\x89PNG"
    assert panel.recipe == USUAL
    for name in METHODS:
        panel.form.method.value = name
        assert panel.recipe == replace(USUAL, method=name, number=None)
        assert panel.form.number.disabled == (name not in NUMBER_OF)
    panel.form.method.value = "ditto"
    panel.form.number.value = math.inf
    assert panel.recipe.number == math.inf


def test_gains_are_sorted_and_those_of_seeds_by_rank(small_task):
    panel = PersonalLab(small_task)

    def ran(seed, own):
        recipe = replace(USUAL, seed=seed)
        result = Result(4, {"accuracy": 0.5}, shared=(0.5, 0.5, 0.5), own=own, groups=("a",) * 3)
        panel.comparison.begin([recipe])
        panel.comparison.take(recipe, result)
        panel.comparison.take(recipe, End("finished"))

    ran(0, (0.7, 0.4, 0.5))
    ran(1, (0.5, 0.6, 0.9))
    panel._draw()
    (row,) = panel.board.runs
    assert row["points"] == {"client": [1, 2, 3], "gain": [-5.0, 5.0, 30.0]}
    assert row["low"]["gain"] == [-10.0, 0.0, 20.0]
    assert row["cells"]["below"] == [0.5, "0.5 (0–1)"]
    assert row["cells"]["gain"] == [pytest.approx(10.0), "+10.0 (+3.3–+16.7)"]


def test_the_bars_are_of_a_run_that_is_shown(small_task):
    panel = PersonalLab(small_task)
    result = Result(4, {"accuracy": 0.5}, shared=(0.5,), own=(0.6,), groups=("a",))
    for method in ("tune", "fedper"):
        recipe = replace(USUAL, method=method, number=None)
        panel.comparison.begin([recipe])
        panel.comparison.take(recipe, result)
        panel.comparison.take(recipe, End("finished"))
        panel._racers = [recipe]
    panel._draw()
    assert panel.board.bars["title"].startswith("2 FedPer")
    panel._obey({"do": "drop", "key": "2"})
    assert panel.board.bars["title"].startswith("1 fine-tuned")
    panel.board.hidden = ["1"]
    assert panel.board.bars == {}


def test_each_method_and_each_number_has_its_sentence(small_task):
    panel = PersonalLab(small_task)
    told = set()
    for name in METHODS:
        panel.form.method.value = name
        told.add(panel.form._places["method"].children[1].value)
        assert panel.form._places["number"].children[1].value
    assert len(told) == len(METHODS)
    assert not any("_about" in sentence for sentence in told)


def test_colours_of_gains_are_of_no_run():
    assert not {plots.clients.BETTER, plots.clients.WORSE} & {c.lower() for c in plots.runs.COLOURS}
