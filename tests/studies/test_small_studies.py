"""The studies of label skew, of what to average, and of attacks: what one run measures."""

from collections import Counter

import numpy as np
import pytest
import torch

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds, state
from fedlab_helpers.core.training import evaluate, predict, train
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.strategies.divergence import block_of
from fedlab_helpers.strategies.robust import Krum
from fedlab_helpers.studies import label_skew, load, results, robustness, study, what_to_average


def new_model():
    return Recipe().new_model(study.task())


SMALL = {"seed": 0, "partition": "by_domain", "clients": 200, "cohort": 3, "rounds": 2}


@pytest.mark.parametrize("name", ["label_skew", "block_drift", "what_to_average"])
def test_a_short_run_begins_like_the_table(name, monkeypatch):
    """A run of one round is the first round of the table; of what takes all its rounds, the bytes
    of a round fit into those of the run."""
    ours = load(name)
    settings = ours.runs[{"label_skew": 4, "block_drift": 1, "what_to_average": 0}[name]]
    table = results.read(results.RESULTS / f"{name}.csv")
    rows = [row for row in table if ours.key(row) == ours.key(settings)]
    if name == "what_to_average":  # how the clients' models do is not looked at
        monkeypatch.setattr(what_to_average, "_own_scores", lambda *_: (0.5, 0.5))
        (measured,) = ours.measure({**settings, "rounds": 1})
        assert 14 < int(rows[0]["bytes_up"]) / measured["bytes_up"] < 16
        return
    for row, expected in zip(ours.measure({**settings, "rounds": 1}), rows, strict=False):
        for key, value in row.items():
            told = expected[key]
            assert told == value or float(told) == pytest.approx(value, abs=0.02), key


def test_the_skew_study_counts_what_it_says(few):
    settings = {**SMALL, "partition": "dirichlet", "alpha": 0.1, "epochs": 1, "clients": 20}
    rows = label_skew.measure_skew(settings)
    assert [row["round"] for row in rows] == [1, 2]
    model, clients = new_model(), few.clients(study.recipe_of(settings).deal(few))
    rounds.run(model, clients, strategies.fedavg(), rounds.Plan(2, 3))
    answers = predict(model, few.test).argmax(1)
    right = (answers == few.test.labels).numpy()
    own = study.own_accuracy(right, study.recipe_of(settings).deal(few))
    assert rows[-1]["accuracy"] == pytest.approx(right.mean(), abs=1e-4)
    assert rows[-1]["positive_answers"] == pytest.approx(float(answers.double().mean()), abs=1e-4)
    ends = [own.min(), np.quantile(own, 0.1), own.mean(), own.max()]
    named = ["worst_client", "p10_client", "mean_client", "best_client"]
    assert [rows[-1][name] for name in named] == pytest.approx(ends, abs=1e-4)


def gated_model():
    model = new_model().eval()
    model.recurrent = what_to_average.GateLSTM(model.recurrent)
    return model


def test_gates_apart_compute_what_the_lstm_computes():
    plain, apart, sizes = new_model().eval(), gated_model(), Counter()
    some = study.task().test.subset(range(40))
    assert torch.equal(predict(plain, some), predict(apart, some))
    for name, parameter in apart.named_parameters():
        sizes[what_to_average.letter_of(name)] += parameter.numel()
    assert sizes.keys() == set("eifgoh")
    quarter = sum(p.numel() for p in plain.recurrent.parameters()) / 4
    assert [sizes[gate] for gate in "ifgo"] == [quarter] * 4


def test_a_gate_is_the_one_that_pytorch_calls_so():
    """With the forget gate shut the memory is lost: only the last word counts."""
    model = gated_model()
    with torch.no_grad():
        for name, parameter in model.recurrent.named_parameters():
            if name.startswith("f_"):
                parameter.fill_(-100.0 if "bias" in name else 0.0)
            if "weight_hh" in name:
                parameter.zero_()
    vectors = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    last, _ = model.recurrent(vectors)
    alone, _ = model.recurrent(vectors[:, -1:])
    assert torch.allclose(last[:, -1], alone[:, 0], atol=1e-6)


def test_what_is_private_is_not_sent_and_each_client_is_judged_with_its_own(monkeypatch, few):
    settings, seen, sent = {**SMALL, "clients": 20, "cohort": 2, "rounds": 1}, [], {}
    (row,) = what_to_average.measure_private({**settings, "private": "recurrent"})
    assert 0.4 < row["own_domain_accuracy"] < 0.8

    def judged(model, weights, domain):
        seen.append((domain, weights["head.weight"]))
        return 0.5, 0.5

    monkeypatch.setattr(what_to_average, "_own_scores", judged)
    for private in ("nothing", "forget gate", "embedding", "head"):
        seen.clear()
        (row,) = what_to_average.measure_private({**settings, "private": private})
        sent[private] = row["bytes_up"]
    assert sent["nothing"] > sent["head"] > sent["forget gate"] > sent["embedding"]
    heads = {tuple(head.flatten().tolist()) for _, head in seen}
    assert len(seen) == 20
    assert len(heads) == 3  # two that trained, and the untrained one of all others
    assert {domain for domain, _ in seen} == {"book", "hotel", "laptop", "other"}


def test_drift_is_measured_for_each_part(few):
    rows = what_to_average.measure_drift({**SMALL, "alpha": 0.1, "rounds": 1})
    assert [row["block"] for row in rows] == [
        "embedding", "input gate", "forget gate", "candidate", "output gate", "head",
    ]  # fmt: skip
    watched = what_to_average.Watched()
    rounds.run(new_model(), study.begin(study.recipe_of(SMALL))[1], watched, rounds.Plan(1, 3))
    head = [
        torch.cat([t.flatten() for name, t in change.items() if block_of(name) == "head"])
        for change in watched.seen
    ]
    expected = float(torch.stack(head).norm(dim=1).mean())
    assert rows[-1]["norm"] == pytest.approx(expected, abs=1e-4)


def test_an_attack_changes_the_run_and_its_clients_are_counted(few):
    settings = {**SMALL, "clients": 20, "cohort": 10, "hostile": 0.2, "rounds": 1, "lr": 5e-3}
    settings["strategy"] = "fedavg"
    rows = {a: robustness.measure_attack({**settings, "attack": a})[0] for a in robustness.ATTACKS}
    for attack, row in rows.items():
        hostile = row["hostile_in_cohort"]
        changed = row["loss"] != rows["none"]["loss"]
        assert (hostile > 0) == (attack != "none") == changed
        assert row["left_out"] == (hostile if attack == "nan" else 0)


def test_without_attack_the_run_is_the_plain_one(few):
    settings = {**SMALL, "hostile": 0.2, "attack": "none", "strategy": "uniform", "lr": 1e-2}
    rows = robustness.measure_attack(settings)
    model, clients, _, plan = study.begin(study.recipe_of(SMALL, lr=1e-2))
    rounds.run(model, clients, strategies.uniform(), plan)
    assert rows[-1]["accuracy"] == round(evaluate(model, few.test).accuracy, 5)


def test_krums_cohort_is_large_enough():
    for make in robustness.COMBINATIONS.values():
        combine = make().combine
        if isinstance(combine, Krum):
            assert 2 * combine.f + 3 <= 10
            assert combine.keep <= 10 - combine.f


def test_clipping_shortens_an_honest_change_to_about_half():
    model, clients, _, plan = study.begin(study.recipe_of(robustness.ROBUSTNESS.runs[0]))
    before = state.of_model(model)
    train(model, clients[0], plan.local, seed=0)
    length = state.norm(state.subtract(state.of_model(model), before))
    assert length == pytest.approx(2 * robustness.HALF_AS_LONG, rel=0.25)
