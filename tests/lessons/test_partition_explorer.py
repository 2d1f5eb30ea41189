"""The partition explorer: each control redraws, and what cannot be dealt is said in words."""

import numpy as np
import pytest

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons.panels import PartitionExplorer
from fedlab_helpers.lessons.panels.partition_explorer import _shown, in_numbers
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
    before = explorer.map.shown, explorer.readout
    assert before[1].startswith("20 clients of ")
    getattr(explorer, control).value = other
    assert explorer.map.shown != before[0]
    assert explorer.readout != before[1]
    assert getattr(explorer, control)._dom_classes[0] == f"fl-explorer-{control}"


def test_sentence_and_picture_are_of_the_deal(explorer):
    parts = task().deal("dirichlet", 7, numpy_rng(4, "partition"), 0.2)
    table = partition.describe(parts, task().train.labels, task().domains)
    onesided = ((table["label 0"] >= 0.95) | (table["label 1"] >= 0.95)).sum()
    explorer.alpha.value, explorer.clients.value, explorer.seed.value = 0.2, 7, 4
    sentence = explorer.readout
    sizes = sorted(map(len, parts))
    assert f"7 clients of {sizes[0]} to {sizes[-1]} reviews, the largest with " in sentence
    assert f"{sizes[-1] / sum(sizes):.0%} of all; {onesided} of them" in sentence
    bars, labels, domains = explorer.map.shown["panes"]
    assert bars["bars"] == table["size"].tolist()
    assert f"client 6: {table['size'][6]:,} reviews\n" in bars["tips"][0][6]
    assert f"\npositive: {table['label 1'][6]:.0%}\n" in domains["tips"][0][6]
    assert f"differ by {table['domain divergence'].mean():.2f} bits" in domains["label"]
    opacity = np.frombuffer(labels["pixels"], np.uint8).reshape(2, 7, 4)[..., 3]
    assert np.abs(opacity - 255 * table[["label 0", "label 1"]].to_numpy().T).max() <= 0.5


def test_numbers_of_three_clients_by_hand():
    parts = [np.array([0, 1, 2, 3]), np.array([4]), np.array([5, 6, 7])]
    labels, names = [0, 0, 1, 1, 1, 0, 0, 0], ["divers", "books"] * 4
    table = partition.describe(parts, labels, names)
    told = in_numbers(table)
    assert (told["clients"], told["smallest"], told["largest"]) == (3, 1, 4)
    assert (told["share"], told["together"], told["onesided"]) == (0.5, 2, 2)
    assert told["label_bits"] > told["domain_bits"] > 0
    assert told["domain_most"] == pytest.approx(0.3113, abs=1e-4)  # two halves: one alone is 0.311
    assert _shown(table, ["no", "yes"])["panes"][2]["ticks"] == [[0, "books"], [1, "divers"]]


@pytest.mark.parametrize("name", PartitionExplorer.tries)
def test_an_experiment_sets_all_controls_and_says_what_came(explorer, name):
    explorer.clients.value = 33
    drawn = []
    explorer.board.observe(lambda change: drawn.append(change["new"]["parts"]), "status")
    explorer._try(name)
    assert explorer.form.values == explorer.tries[name]
    assert len(drawn) == 1  # once, though four controls are set
    assert [heading for heading, _ in drawn[0]] == ["", "Look for"]
    explorer.clients.value = 21
    explorer.clients.value = 22
    assert [heading for heading, _ in drawn[2]] == ["", "Look for", "Answer"]
    assert drawn[1][1:] == drawn[2][1:]  # the question stays, and the answer is of the experiment


def test_what_cannot_be_dealt_is_explained_and_the_picture_stays(explorer):
    explorer.kind.value = "by_domain"
    before = explorer.map.shown
    explorer.clients.value = 3
    assert "3 clients cannot be dealt by “one domain a client”" in explorer.readout
    assert "it takes a client for each of the 4 domains" in explorer.readout
    assert "_" not in explorer.readout
    assert explorer.map.pale
    assert explorer.map.shown == before
    explorer.clients.value = 4
    assert not explorer.map.pale


def test_alpha_rests_where_it_says_nothing(explorer):
    for kind in DEALS:
        explorer.kind.value = kind
        before = explorer.readout, explorer.map.shown
        explorer.alpha.value = 0.05 if explorer.alpha.value != 0.05 else 5.0
        same = (explorer.readout, explorer.map.shown) == before
        assert same == explorer.alpha.disabled == (not DEALS[kind].uses_alpha)


def test_a_cell_shows_why_nothing_can_be_dealt(explorer):
    explorer.kind.value, explorer.clients.value = "by_domain", 3
    (told,) = explorer._still().texts
    assert "3 clients cannot be dealt" in told.get_text()
