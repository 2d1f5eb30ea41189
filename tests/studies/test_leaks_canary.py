"""The study of canaries: what is planted, how it is ranked, and which model is asked."""

from collections import Counter

import pytest
import torch
from torch import nn
from toys import make_reviews

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.studies import leaks_canary, results
from fedlab_helpers.studies.leaks_canary import TASKS, canaries, given_away, losses, planted
from fedlab_helpers.tasks.next_word import NextWordLSTM, next_words

each_task = pytest.mark.parametrize("task", TASKS)


def test_candidates_begin_alike_and_no_two_are_alike():
    sentences = canaries(3, 8_000, seed=0)
    assert sentences.tokens.shape == (8_000, 7)
    assert len(sentences.tokens[:, :4].unique(dim=0)) == 1
    assert len(sentences.tokens.unique(dim=0)) == 8_000  # all that there are
    assert set(sentences.tokens[:, 4:].flatten().tolist()) == set(range(1_000, 1_020))
    assert len(sentences.labels.unique()) == 1


def test_a_seed_decides_the_canary_alone():
    first, again, *others = (canaries(4, 100, seed).tokens for seed in (0, 0, 1, 2))
    assert torch.equal(first, again)
    for other in others:
        assert not torch.equal(first[0, :4], other[0, :4])
        assert not torch.equal(first[0, 4:], other[0, 4:])


@pytest.mark.parametrize("repeats", [0, 1, 5])
def test_a_canary_stands_behind_the_reviews_so_often(repeats):
    reviews, canary = make_reviews(6), make_reviews(3, seed=1, longest=7)
    both = planted(reviews, canary, repeats)
    assert len(both) == 6 + repeats
    assert torch.equal(both.tokens[:6], reviews.tokens)
    assert both.tokens[6:, :7].tolist() == [canary.tokens[0].tolist()] * repeats
    assert both.lengths[6:].tolist() == [int(canary.lengths[0])] * repeats
    assert both.labels[6:].tolist() == [int(canary.labels[0])] * repeats


class Preference(nn.Module):
    """Gives each candidate, by its number, its logit of class 0."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, numbers):
        return torch.stack([self.logits[numbers], torch.zeros(len(numbers))], 1)


@pytest.mark.parametrize(
    ("logits", "bits", "found"),
    [
        ([3.0, 0.0, 1.0, 2.0], 2, True),
        ([2.0, 0.0, 1.0, 3.0], 1, False),
        ([0.0, 1.0, 2.0, 3.0], 0, False),
        ([3.0, 3.0, 1.0, 2.0], 2, False),  # as likely as another: a search cannot tell them apart
    ],
)
def test_the_canary_is_found_where_it_is_the_likeliest(logits, bits, found):
    candidates = Examples((torch.arange(4),), torch.zeros(4, dtype=torch.int64))
    assert given_away(Preference(logits), candidates) == (bits, found)


def test_a_sentence_costs_what_its_words_cost_one_by_one():
    model, candidates = NextWordLSTM(2_000, 4, 5, seed=0), next_words(canaries(3, 250, seed=0))
    with torch.no_grad():
        log_p = model(*candidates.inputs).log_softmax(2)
    words = -log_p.gather(2, candidates.targets[..., None])[..., 0].double()
    assert losses(model, candidates) == pytest.approx(words.sum(1).numpy(), rel=1e-5)
    assert words[:, :3].numpy() == pytest.approx(words[:1, :3].expand(250, 3).numpy(), rel=1e-5)


@pytest.fixture
def short(monkeypatch, few):
    """Two rounds of two clients with twenty reviews each, and few candidates."""
    monkeypatch.setattr(leaks_canary, "CLIENTS", 2)
    monkeypatch.setattr(leaks_canary, "REVIEWS", 20)
    monkeypatch.setattr(leaks_canary, "ROUNDS", 2)
    for name, asked in TASKS.items():
        monkeypatch.setitem(TASKS, name, asked._replace(candidates=64))
    return few


def test_clients_hold_equally_many_reviews_and_none_twice(short, monkeypatch):
    half = len(short.train) // 2
    monkeypatch.setattr(leaks_canary, "REVIEWS", half)
    held = [data.tokens.tolist() for data in leaks_canary.ten_clients(0)]
    assert [len(rows) for rows in held] == [half, half]
    assert Counter(map(tuple, held[0] + held[1])) <= Counter(
        map(tuple, short.train.tokens.tolist())
    )
    assert held[0] != leaks_canary.ten_clients(1)[0].tokens.tolist()


def test_one_client_is_watched_and_nothing_is_changed():
    watch, ours, other = leaks_canary.Watch(3), Update(3, {}), Update(4, {})
    for update in (ours, other):
        assert watch(update, {}, torch.Generator()) == (update, {})
    assert watch.update is ours


@each_task
def test_what_is_often_repeated_is_learned_and_more_so_by_the_client_that_holds_it(short, task):
    silent, told = (
        leaks_canary.measure_canary({"seed": 0, "task": task, "repeats": n}) for n in (0, 60)
    )
    assert [row["round"] for row in told] == [1, 2]
    assert told[1]["local_exposure"] == 6  # bits of 64
    assert told[1]["local_extracted"]
    assert told[0]["averaged_exposure"] <= told[0]["local_exposure"]
    assert silent[1]["local_exposure"] < 6
    again = leaks_canary.measure_canary({"seed": 0, "task": task, "repeats": 60})
    assert again == told


@each_task
def test_alone_a_client_is_its_own_mean(short, monkeypatch, task):
    """What is asked is the very model that took part in the mean."""
    monkeypatch.setattr(leaks_canary, "CLIENTS", 1)
    asked = []
    monkeypatch.setattr(
        leaks_canary, "given_away", lambda model, _: asked.append(weights(model)) or (0.0, False)
    )
    leaks_canary.measure_canary({"seed": 0, "task": task, "repeats": 3})
    for own, mean in zip(asked[::2], asked[1::2], strict=True):
        assert own.equal(mean)
    assert not asked[0].equal(asked[2])


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@each_task
def test_the_mean_is_judged_after_the_last_round(short, monkeypatch, task):
    last = []
    monkeypatch.setattr(
        leaks_canary, "given_away", lambda model, _: last.append(model) or (0.0, False)
    )
    first, end = leaks_canary.measure_canary({"seed": 0, "task": task, "repeats": 0})
    assert first["loss"] is first["score"] is None
    test = TASKS[task].examples(short.test)
    scores = evaluate(last[-1], test)
    assert end["loss"] == pytest.approx(scores.loss, abs=1e-5)
    assert end["score"] == pytest.approx(scores[test.objective.measure], abs=1e-5)


def test_a_short_run_begins_like_the_table(monkeypatch):
    study = leaks_canary.LEAKS_CANARY
    settings = {"seed": 1, "task": "sentiment", "repeats": 20}
    monkeypatch.setattr(leaks_canary, "ROUNDS", 1)
    (row,) = study.rows(settings)
    table = results.read(results.RESULTS / "leaks_canary.csv")
    expected = next(old for old in table if study.key(old) == study.key(settings))
    for name in ("local_exposure", "averaged_exposure"):
        assert row[name] == pytest.approx(float(expected[name]), abs=0.5)
