"""Figures of what noise hides and costs show the numbers that they are given."""

import numpy as np
import pandas as pd

from fedlab_helpers.lessons import plots
from fedlab_helpers.privacy.budget import delta_of


def test_what_lies_above_the_allowed_curve_is_delta():
    (axes,) = plots.two_worlds(mu=1.5, epsilon=1.0).axes
    (part,) = axes.collections
    corners = part.get_paths()[0].vertices
    x, y = corners[:-1].T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert abs(area / np.sqrt(2 * np.pi) - delta_of(1.0, 1.5)) < 2e-3


def test_each_run_is_a_dot_and_each_world_a_line_of_means():
    table = pd.DataFrame(
        {
            "world": ["a", "a", "a", "b"],
            "epsilon": [8.0, 8.0, None, 2.0],
            "accuracy": [0.7, 0.8, 0.9, 0.6],
        }
    )
    (axes,) = plots.price(table, plain=0.5).axes
    means, dots, *_ = axes.lines
    assert (list(means.get_xdata()), list(means.get_ydata())) == ([8, 16], [0.75, 0.9])
    assert list(dots.get_ydata()) == [0.7, 0.8, 0.9]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "8", "no noise"]
    assert axes.lines[-1].get_ydata()[0] == 0.5


def test_what_is_chance_is_pale_and_what_is_left_is_dark():
    table = pd.DataFrame(
        {
            "protection": ["nothing", "nothing", "noise", "noise"],
            "attack": ["words", "bits", "words", "bits"],
            "value": [1.0, 10.0, 0.5, 6.0],
            "chance": [0.5, 2.0, 0.5, 2.0],
        }
    )
    (axes,) = plots.left_of(table).axes
    assert axes.images[0].get_array().tolist() == [[1.0, 1.0], [0.0, 0.5]]
    told = ["1.00 (0.50)", "10.00 (2.00)", "0.50 (0.50)", "6.00 (2.00)"]
    assert [text.get_text() for text in axes.texts] == told
    assert [label.get_text() for label in axes.get_yticklabels()] == ["nothing", "noise"]
