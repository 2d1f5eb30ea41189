"""The partition explorer: each control redraws, and what cannot be dealt is said in words."""

import pytest

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons.panels import PartitionExplorer
from fedlab_helpers.lessons.panels.partition_explorer import dealt
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.task import DEALS


@pytest.fixture
def explorer():
    return PartitionExplorer(task())


@pytest.mark.parametrize(
    ("control", "other"), [("kind", "by_domain"), ("alpha", 0.1), ("clients", 9), ("seed", 3)]
)
def test_each_control_draws_anew(explorer, control, other):
    before = bytes(explorer.image.value), explorer.readout
    assert before[0][:4] == b"\x89PNG"
    assert before[1].startswith("20 clients of ")
    getattr(explorer, control).value = other
    assert bytes(explorer.image.value) != before[0]
    assert explorer.readout != before[1]
    assert getattr(explorer, control)._dom_classes[0] == f"fl-explorer-{control}"


def test_the_sentence_is_of_the_deal():
    parts = task().deal("dirichlet", 7, numpy_rng(4, "partition"), 0.2)
    table = partition.describe(parts, task().train.labels)
    onesided = ((table["label 0"] >= 0.95) | (table["label 1"] >= 0.95)).sum()
    _, sentence = dealt(task(), "dirichlet", 7, 0.2, 4)
    sizes = sorted(map(len, parts))
    assert f"7 clients of {sizes[0]} to {sizes[-1]} reviews, the largest with " in sentence
    assert f"{sizes[-1] / sum(sizes):.0%} of all; {onesided} of them" in sentence


def test_what_cannot_be_dealt_is_explained_and_the_picture_stays(explorer):
    explorer.kind.value = "by_domain"
    before = bytes(explorer.image.value)
    explorer.clients.value = 3
    assert "3 clients cannot be dealt by “one domain a client”" in explorer.readout
    assert "at least one for each of the 4 domains" in explorer.readout
    assert "fl-pale" in explorer.image._dom_classes
    assert bytes(explorer.image.value) == before
    explorer.clients.value = 4
    assert "fl-pale" not in explorer.image._dom_classes


def test_alpha_rests_where_it_says_nothing(explorer):
    for kind in DEALS:
        explorer.kind.value = kind
        before = explorer.readout, bytes(explorer.image.value)
        explorer.alpha.value = 0.05 if explorer.alpha.value != 0.05 else 5.0
        same = (explorer.readout, bytes(explorer.image.value)) == before
        assert same == explorer.alpha.disabled == (not DEALS[kind].uses_alpha)
