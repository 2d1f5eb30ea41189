"""The map of a partition shows the numbers of its table."""

import numpy as np
import pytest

from fedlab_helpers.lessons.plots import client_dots, cosine_maps, partition_map
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


def test_the_title_names_the_divergences():
    table = partition.describe(PARTS, LABELS, DOMAINS)
    mean = [table[f"{kind} divergence"].mean() for kind in ("label", "domain")]
    title = partition_map(table).axes[0].get_title()
    assert title == f"labels differ by {mean[0]:.2f} bits; domains by {mean[1]:.2f} bits"


@pytest.mark.parametrize(("clients", "figures"), [(2, 4), (60, 0)])
def test_labels_alone_and_many_clients(clients, figures):
    labels = np.arange(clients * 3) % 2
    parts = np.array_split(np.arange(clients * 3), clients)
    _, heat, _ = partition_map(partition.describe(parts, labels)).axes
    assert heat.images[0].get_array().shape == (2, clients)
    assert len(heat.texts) == figures  # only where there is room for them


def test_cosines_are_drawn_as_they_are_without_the_diagonal():
    matrix = np.array([[1.0, -0.5], [-0.5, 1.0]])
    first, second, bar = cosine_maps({"iid": matrix, "x": matrix}, {"x": "mine"}).axes
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
