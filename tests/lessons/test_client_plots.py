"""Figures of clients: what they hold, how unlike they are, who gains."""

import numpy as np
import pytest

from fedlab_helpers.lessons.plots import (
    client_bars,
    client_dots,
    cosine_maps,
    partition_map,
    slopes,
)
from fedlab_helpers.tasks import partition

LABELS = np.array([0, 0, 1, 1, 1, 1])
DOMAINS = ["book", "book", "hotel", "book", "hotel", "hotel"]
PARTS = [np.array([0, 1, 2]), np.array([3]), np.array([4, 5])]


def test_sizes_and_shares_are_those_of_the_table():
    table = partition.describe(PARTS, LABELS, DOMAINS)
    sizes, labels, domains, bar = partition_map(table).axes
    (steps,) = sizes.patches
    assert steps.get_data().values.tolist() == [3, 1, 2]
    assert np.allclose(labels.images[0].get_array(), [[2 / 3, 0, 0], [1 / 3, 1, 1]])
    assert np.allclose(domains.images[0].get_array(), [[2 / 3, 1, 0], [1 / 3, 0, 1]])
    assert [label.get_text() for label in labels.get_yticklabels()] == ["negative", "positive"]
    assert [label.get_text() for label in domains.get_yticklabels()] == ["book", "hotel"]
    assert "67%" in [written.get_text() for written in labels.texts]
    assert bar.get_ylabel() == "share of the client's reviews"
    bits = [table[f"{kind} divergence"].mean() for kind in ("label", "domain")]
    said = f"labels differ by {bits[0]:.2f} bits; domains by {bits[1]:.2f} bits"
    assert sizes.get_title() == said
    odd = partition.describe(PARTS, LABELS, ["run" if d == "book" else "{x}" for d in DOMAINS])
    _, labels, domains, _ = partition_map(odd, ("差评", "好评")).axes
    assert [label.get_text() for label in labels.get_yticklabels()] == ["差评", "好评"]
    assert {label.get_text() for label in domains.get_yticklabels()} == {"run", "{x}"}


@pytest.mark.parametrize(("clients", "figures"), [(2, 4), (60, 0)])
def test_labels_alone_and_many_clients(clients, figures):
    labels = np.arange(clients * 3) % 2
    parts = np.array_split(np.arange(clients * 3), clients)
    _, heat, _ = partition_map(partition.describe(parts, labels)).axes
    assert heat.images[0].get_array().shape == (2, clients)
    assert len(heat.texts) == figures  # only where there is room for them


def test_cosines_are_drawn_as_they_are_without_the_diagonal():
    matrix = np.array([[1.0, -0.5], [-0.5, 1.0]])
    groups = {"x": ["book"] * len(matrix)}
    first, second, bar = cosine_maps({"iid": matrix, "x": matrix}, {"x": "mine"}, groups).axes
    assert [label.get_text() for label in second.get_yticklabels()] == ["book"]
    drawn = first.images[0].get_array()
    assert drawn.mask.diagonal().all()
    assert drawn[0, 1] == drawn[1, 0] == -0.5
    assert (first.get_title(), second.get_title()) == ("at random (IID)", "mine")
    assert bar.get_ylabel() == "cosine of the angle"
    assert matrix[0, 0] == 1  # what came in is not changed


def test_clients_are_drawn_from_the_worst_to_the_best():
    axes = client_dots({"a": np.array([0.5, 0.1, 0.9]), "b": np.array([0.7])}).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.5, 0.9]
    assert axes.lines[0].get_marker() != axes.lines[1].get_marker()
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["a", "b"]


def test_bars_show_who_gains_and_who_loses_beside_their_own_kind():
    groups = ("hotel", "book", "hotel")
    (axes,) = client_bars((0.8, 0.7, 0.6), (0.9, 0.6), groups, "so far").axes
    drawn = [container[0] for container in axes.containers]  # the book first
    assert [bar.get_y() for bar in drawn] == pytest.approx([0.7, 0.8])  # where the shared one is
    assert [bar.get_y() + bar.get_height() for bar in drawn] == pytest.approx([0.6, 0.9])
    assert [bar.get_hatch() for bar in drawn] == ["///", ""]
    assert [bar.get_x() + bar.get_width() / 2 for bar in drawn] == pytest.approx([0, 1])
    assert list(axes.lines[0].get_ydata()) == [0.7, 0.8, 0.6]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["book", "hotel"]
    assert axes.get_xticks().tolist() == [0, 1.5]
    assert axes.get_title() == "so far"


def test_a_client_below_the_floor_is_drawn():
    (axes,) = client_bars((0.1, 0.9), (0.3,), ("a", "b")).axes
    assert axes.get_ylim()[0] == 0.1
    assert axes.containers[0][0].get_y() == pytest.approx(0.1)


def test_slopes_go_from_shared_to_own_in_panes_by_group():
    owns = {"one": (0.9, 0.6, 0.6), "other": (0.1, 0.7, 0.6)}
    picture = slopes((0.8, 0.7, 0.6), owns, ("hotel", "book", "hotel"))
    panes = picture.axes
    assert [axes.get_title() for axes in panes] == ["hotel", "book"] * 2
    drawn = [[list(line.get_ydata()) for line in axes.lines] for axes in panes]
    assert drawn[0][:2] == [[0.8, 0.9], [0.6, 0.6]]
    assert drawn[1:] == [[[0.7, 0.6]], [[0.8, 0.1], [0.6, 0.6]], [[0.7, 0.7]]]
    assert len({axes.get_ylim() for axes in panes}) == 1
    told = [text.get_text() for text in picture.legends[0].get_texts()]
    assert told == ["own model, better", "own model, worse"]
