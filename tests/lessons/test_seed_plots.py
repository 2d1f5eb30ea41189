"""The figure of several seeds shows every one of them, and where their mean is."""

import pytest

from fedlab_helpers.lessons.plots import seed_dots


def drawn(axes) -> list[tuple[list[float], float]]:
    return [(list(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines]


def test_each_seed_is_a_dot_and_the_mean_a_bar():
    panels = {
        "IID": {"FedAvg": [0.5, 0.7, 0.9], "median": [0.2]},
        "by domain": {"median": [0.4, 0.6]},
    }
    picture = seed_dots(panels, "accuracy", level=0.8)
    left, right = picture.axes
    dots, bar, one, its_bar, level = drawn(left)
    assert dots == ([0.5, 0.7, 0.9], 0)
    assert bar == ([pytest.approx(0.7)], 0)
    assert one == ([0.2], 1)
    assert its_bar == ([0.2], 1)
    assert level[0] == [0.8, 0.8]
    assert [label.get_text() for label in left.get_yticklabels()] == ["FedAvg", "median"]
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top
    assert drawn(right)[0] == ([0.4, 0.6], 1)  # FedAvg is not in this panel
    assert [axes.get_title() for axes in (left, right)] == ["IID", "by domain"]
    assert picture._repr_png_().startswith(b"\x89PNG")
