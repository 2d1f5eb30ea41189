"""The personal lab without a browser: its controls are set, its buttons pressed by calls."""

import math
from dataclasses import replace

from fedlab_helpers.lessons.panels import PersonalLab
from fedlab_helpers.lessons.panels.personal_lab import NUMBERS
from fedlab_helpers.lessons.runs import NUMBER_OF
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.personal.methods import METHODS

USUAL = PersonalLab.usual


def test_every_number_has_values_the_tries_among_them():
    for name, method in METHODS.items():
        assert (name in NUMBER_OF) == bool(method.tries), name
        assert set(method.tries) <= set(NUMBERS.get(NUMBER_OF.get(name), ())), name
        assert {name, *NUMBER_OF.values()} <= ENGLISH.keys()


def test_the_panel_opens_as_usual_and_each_method_brings_its_number(small_task):
    panel = PersonalLab(small_task)
    assert panel.image.value[:4] == b"\x89PNG"
    assert panel.recipe == USUAL
    assert "Choose a method" in panel.status.value
    for name in METHODS:
        panel.method.value = name
        assert panel.recipe == replace(USUAL, method=name, number=None)
        assert panel.number.disabled == (name not in NUMBER_OF)
    panel.method.value = "ditto"
    panel.number.value = math.inf
    assert panel.recipe.number == math.inf
