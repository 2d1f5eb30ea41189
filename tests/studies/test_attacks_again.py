"""Attacks under protection: figures by hand, and a short run of each part."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy import leaks
from fedlab_helpers.studies import attackers, leaks_canary
from fedlab_helpers.studies import attacks_again as study
from fedlab_helpers.studies import leaks as leaks_study
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM, SentimentLSTM

V = 60
VECTORS = torch.randn(V, 16, generator=torch_rng(0))
VECTORS[[0, 1, 9]] = 0


def reviews(*rows):
    tokens = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return EncodedReviews(tokens, lengths, torch.tensor([k % 2 for k in range(len(rows))]))


@pytest.fixture(params=[False, True], ids=["own words", "public words"])
def model(request):
    made = PublicWordsLSTM(VECTORS, 16, pooling="last", seed=0)
    return made if request.param else SentimentLSTM(V, 16, 16, seed=0)


def test_on_one_gradient_every_attack_succeeds_with_either_kind_of_words(model):
    text = [7, 9, 21, 40, 3]
    data = reviews(text)
    seen, other = (leaks.gradient_of(model, reviews(row)) for row in (text, [8, 50, 51]))
    assert attackers.words(model, data, seen) == 1
    assert attackers.words(model, data, other) < 0.6
    assert attackers.clock(model, data, seen) >= 0.8 - 1e-9
    assert attackers.sentence(model, data, seen) == (True, False)
    assert attackers.exact(model, data, seen)
    assert attackers.sentence(model, data, other) == (False, True)  # another text, and certified


def test_members_are_those_all_of_whose_words_were_touched():
    pool = reviews([2, 3], [4, 3], [5, 3], [6, 7])
    seen = {"embedding.weight": torch.zeros(V, 1)}
    seen["embedding.weight"][[2, 3, 4]] = 1.0
    assert attackers.member_words(SentimentLSTM(V), pool, seen) == 1
    seen["embedding.weight"][[5]] = 1.0
    assert attackers.member_words(SentimentLSTM(V), pool, seen) == 0.75  # the third looks the same


def test_where_noise_touched_all_words_their_strength_tells_members():
    pool = reviews([2, 2, 3], [4, 3], [5, 6], [6, 7])
    seen = {"embedding.weight": torch.arange(float(V), 0, -1)[:, None]}
    assert attackers.member_words(SentimentLSTM(V), pool, seen) == 1


def test_members_are_those_of_which_the_changed_model_is_sure():
    model, pool = SentimentLSTM(V, 8, 8, seed=0), reviews([2, 3], [4, 5], [2, 3], [4, 5])
    pool = EncodedReviews(pool.tokens, pool.lengths, torch.tensor([0, 0, 1, 1]))
    change = {name: torch.zeros_like(tensor) for name, tensor in of_model(model).items()}
    change["head.bias"] = torch.tensor([5.0, -5.0])
    assert attackers.member_loss(model, pool, change) == 1
    change["head.bias"] = -change["head.bias"]
    assert attackers.member_loss(model, pool, change) == 0


def test_chance_is_the_score_of_what_is_seen_of_another():
    seen = [{"x": torch.tensor(float(k))} for k in range(3)]
    row = study.scored("words", "nothing", seen, lambda k, s: float(s["x"] == k), range(3))
    assert row == {"attack": "words", "protection": "nothing", "value": 1.0, "chance": 0.0}


@pytest.fixture
def quick(monkeypatch, few):
    """Few clients, public vectors drawn at random, and models trained for a moment."""

    def weights(stage, seed, public):
        if public:
            return of_model(PublicWordsLSTM(study.vectors(64), pooling="last", seed=seed))
        model = SentimentLSTM(len(few.vocab), seed=seed)
        if stage:
            train(model, few.train.subset(range(320)), LocalConfig(epochs=2), seed=seed)
        return of_model(model)

    monkeypatch.setattr(study, "weights", weights)
    drawn = lambda size: torch.randn(len(few.vocab), size, generator=torch_rng(0))  # noqa: E731
    monkeypatch.setattr(study, "vectors", drawn)
    monkeypatch.setattr(study, "TARGETS", 2)
    monkeypatch.setattr(study, "OTHERS", 11)
    return few


def table(part):
    rows = study.ATTACKS_AGAIN.rows({"seed": 0, "part": part})
    return {(row["attack"], row["protection"]): row for row in rows}


ALL = [*study.PROTECTIONS, study.PUBLIC]


def test_one_review_is_read_unless_others_or_noise_stand_before_it(quick, monkeypatch):
    short = (quick.test.lengths <= 20).nonzero()[:, 0]
    monkeypatch.setattr(study, "task", lambda: replace(quick, test=quick.test.subset(short)))
    by = table("one review")
    attacks = ("clock", "words of one review", "sentences", "false certificates")
    assert set(by) == {(a, p) for a in attacks for p in ALL}
    assert by["words of one review", "nothing"]["value"] == 1
    told = by["words of one review", study.PUBLIC]  # that model is untrained, and forgets
    assert told["value"] > told["chance"] + 0.1
    assert by["clock", "nothing"]["value"] > 0.95
    assert by["clock", study.PUBLIC]["value"] > 0.5
    assert by["sentences", "nothing"]["value"] >= 0.5
    for protection in ("mean of 100", "secure sum of 100", "noise at the client"):
        assert by["sentences", protection]["value"] == 0
    assert all(by["false certificates", p]["value"] == 0 for p in ALL)


def test_weights_are_those_of_a_federated_run_of_either_kind_of_model(few, monkeypatch):
    monkeypatch.setattr(leaks_study, "STAGES", (0, 1))
    rounds = leaks_study.rounds
    monkeypatch.setattr(leaks_study, "rounds", lambda *args: islice(rounds(*args), 1))
    for stage, expected in leaks_study.stages(0).items():
        found = study.weights(stage, 0, False)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    drawn = torch.randn(len(few.vocab), 64, generator=torch_rng(0))
    monkeypatch.setattr(study, "vectors", lambda size: drawn)
    first, later = (study.weights(stage, 0, True) for stage in (0, 1))
    assert not any(name.startswith("embedding") for name in first)
    assert all(not torch.equal(first[name], later[name]) for name in first)


def test_twelve_reviews_are_told_by_their_words(quick):
    by = table("twelve reviews")
    attacks = ("words", "membership by words", "membership by loss")
    assert set(by) == {(a, p) for a in attacks for p in ALL}
    assert by["words", "nothing"]["value"] == by["membership by words", "nothing"]["value"] == 1
    assert 0.4 < by["words", "noise at the client"]["value"] < 0.6
    assert 0.4 < by["words", study.PUBLIC]["value"] < 0.6
    assert by["words", "secure sum of 10"]["value"] > by["words", "secure sum of 10"]["chance"]


def test_a_secret_is_given_away_by_its_client_and_not_through_noise(quick, monkeypatch):
    name = "next word"
    asked = leaks_canary.TASKS[name]._replace(candidates=64)
    monkeypatch.setitem(leaks_canary.TASKS, name, asked)
    monkeypatch.setattr(leaks_canary, "CLIENTS", 3)
    monkeypatch.setattr(leaks_canary, "REVIEWS", 20)
    monkeypatch.setattr(study, "REPEATS", 60)
    by = table("canary")
    assert set(by) == {("canary", p) for p in ALL}
    assert by["canary", "nothing"]["value"] == 6  # bits of 64
    assert by["canary", "nothing"]["chance"] < 6
    assert by["canary", "noise at the client"]["value"] < 6


def test_shut_gates_bare_one_client_unless_masks_hang_on_the_model(quick):
    by = table("shut gates")
    bare, bound = "secure sum of 10, model not bound", "secure sum of 10"
    assert by["shut gates: words", bare]["value"] > 0.95
    assert by["shut gates: words", bound]["value"] == pytest.approx(0.5, abs=0.1)
    assert by["shut gates: sentences", bound]["value"] == 0
    assert by["shut gates: sentences", f"{bare}, 32 bits"]["value"] >= 0.5
    assert len(by) == 6
