"""The comparison of personal methods: what one run measures, and that no exam was chosen by."""

import numpy as np
import pandas as pd
import pytest
import torch

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.personal.federation import Snapshot
from fedlab_helpers.personal.members import PARTITIONS
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.studies import personalization as study
from fedlab_helpers.studies import results

SHORT = {"seed": 0, "partition": "strictness", "rounds": 1, "method": "shared", "number": None}


@pytest.fixture(autouse=True)
def little_labelled(monkeypatch):
    """Newcomers that label nothing, and those that label eight reviews."""
    monkeypatch.setattr(study, "LABELLED", (0, 8))


def test_every_method_is_played_on_every_partition_with_three_seeds():
    runs = {(r["method"], r["partition"], r["seed"]) for r in study.PERSONALIZATION.runs}
    assert runs == {
        (m, p, s)
        for s in range(3)
        for p in PARTITIONS
        for m in (study.SECOND_PAIR if p == "two_desks" else METHODS)
        if m != "ifca_random" or p in ("by_domain", "strictness")
    }
    assert study.TUNING_SEED not in range(3)


def test_every_number_was_chosen_on_validation_reviews_as_the_table_says():
    table = pd.read_csv(results.RESULTS / "personalization_rates.csv")
    assert study.best_numbers(table) == study.CHOSEN
    assert not {"accuracy", "gain"} & {*table}
    for run in study.PERSONALIZATION.runs:
        kind = study.LIKE.get(run["partition"], run["partition"])
        name = "ifca" if run["method"] == "ifca_random" else run["method"]  # as many models
        assert run["number"] == (study.CHOSEN[kind][name] if METHODS[name].tries else None)


def test_the_shared_model_gains_nothing_and_loses_nobody(few):
    last, best = study.measure_method(SHORT)
    assert (last["moment"], best["moment"]) == ("last", "best")
    for key in ("gain", "below", "lost", "gained"):
        assert last[key] == best[key] == 0
    assert last["newcomers_0"] == last["newcomers_8"]
    assert best["newcomers_0"] == ""


def test_figures_are_those_of_the_clients_testeds(monkeypatch, few):
    """Half of the clients answer everything rightly, the others everything wrongly."""
    federation = study.federation_of("strictness", 0, 1)

    def knowing(client):
        def answer(reviews):
            known = np.eye(2)[reviews.labels.numpy()]
            return torch.tensor(known if client % 2 == 0 else 1 - known)

        return answer

    method = type("Knowing", (), {})()
    method.snapshots = lambda federation, number: iter(
        [Snapshot(1, knowing, lambda data: knowing(0), groups=tuple(range(20)))]
    )
    monkeypatch.setitem(study.METHODS, "knowing", method)
    last, _ = study.measure_method({**SHORT, "method": "knowing"})
    assert last["accuracy"] == last["balanced_accuracy"] == last["validation_accuracy"] == 0.5
    assert (last["worst_client"], last["p10_client"]) == (0, 0)
    assert last["below"] == last["lost"] == last["gained"] == 0.5
    assert last["newcomers_0"] == 1
    assert last["found_groups"] == 0
    own = [float(v) for v in last["clients_accuracy"].split()]
    assert own == [1.0, 0.0] * 10
    plain = federation.answer_of(federation.shared[1][0])
    shared = np.mean(
        [m.test.accuracy(m.test.right(plain(m.test.data))) for m in federation.members]
    )
    assert last["gain"] == pytest.approx(0.5 - shared, abs=1e-4)


def test_a_short_run_of_ifca_is_scored_on_the_groups_it_finds(few):
    settings = {**SHORT, "partition": "by_domain", "rounds": 3, "method": "ifca", "number": 2.0}
    last = study.measure_method(settings)[0]
    assert -0.2 <= last["found_groups"] <= 1
    assert last["total_bytes"] > last["bytes_up"] > 0


def test_the_shared_model_is_the_federated_run(few, bits):
    federation, snapshots = study.snapshots_of({**SHORT, "partition": "by_domain"})
    (moment,) = snapshots
    model = federation.new_model()
    history = rounds.run(model, federation.clients, strategies.rowwise(), federation.plan)
    assert bits(federation.shared[1][0]) == bits(of_model(model))
    assert moment.bytes_up == history[0].bytes_up
    (row,) = study.measure_try({**SHORT, "partition": "by_domain"})
    own = [evaluate(model, member.validation).accuracy for member in federation.members]
    assert row["validation_accuracy"] == pytest.approx(np.mean(own), abs=1e-5)
