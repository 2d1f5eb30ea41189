"""Every personal method on a small federation, and what must be equal."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab_helpers.core.rounds import Plan, run, sample_cohort
from fedlab_helpers.core.training import LocalConfig, predict
from fedlab_helpers.personal.federation import Federation, Snapshot
from fedlab_helpers.personal.members import deal
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.personal.methods.afterwards import Afterwards
from fedlab_helpers.personal.methods.clustered import Clustered
from fedlab_helpers.personal.methods.shared import Mixed, Shared
from fedlab_helpers.personal.methods.together import Together
from fedlab_helpers.strategies import private
from fedlab_helpers.strategies.personal import Ditto


@pytest.fixture(scope="module")
def dealt(small_task):
    return deal(small_task, "by_domain", 0, clients=4, newcomers=2)


@pytest.fixture(scope="module")
def federation(dealt):
    plan = Plan(4, 3, LocalConfig(1, 8, 0.02), 0, workers=1)
    return Federation(dealt[0], 50, plan, every=2)


def answers(federation, snapshot):
    return [snapshot.answer(k)(m.test.data) for k, m in enumerate(federation.members)]


def last(federation, method, number=0.0):
    return list(method.snapshots(federation, number))[-1]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_for_every_client_and_newcomer(name, federation, dealt):
    method = METHODS[name]
    snapshots = list(method.snapshots(federation, (method.tries or (0.0,))[0]))
    assert snapshots[-1].round == federation.plan.rounds
    for snapshot in snapshots:
        assert snapshot.round in (2, 4)
        assert all(torch.isfinite(logits).all() for logits in answers(federation, snapshot))
        for data in (None, dealt[1][0].train):
            logits = snapshot.newcomer(data)(dealt[1][0].test.data)
            assert logits.shape == (len(dealt[1][0].test.data), 2)
        if name == "alone":
            assert snapshot.bytes_up == snapshot.total_bytes == 0
        else:
            assert snapshot.total_bytes > snapshot.bytes_up > 0


@pytest.mark.parametrize("name", ["tune", "fedper", "ditto"])
def test_what_is_common_may_be_private_and_its_cohorts_drawn_by_coins(name, federation):
    plan = replace(federation.plan, sampling="poisson", clients_per_round=1)
    drawn = {len(sample_cohort(plan, number, len(federation.members))) for number in range(1, 5)}
    assert 0 in drawn
    noisy = replace(federation, plan=plan, strategy=private(), memory={}, judged={})
    method = METHODS[name]
    snapshots = list(method.snapshots(noisy, (method.tries or (0.0,))[0]))
    assert all(torch.isfinite(logits).all() for logits in answers(noisy, snapshots[-1]))


def test_a_snapshot_keeps_what_it_saw(federation):
    """Looked at after the run has gone on, it answers as it did."""
    federation = replace(federation, every=1)
    for name in ("fedper", "ditto", "ifca", "shared"):
        snapshots = METHODS[name].snapshots(federation, 2.0)
        first = next(snapshots)
        before = answers(federation, first)
        list(snapshots)
        assert all(map(torch.equal, before, answers(federation, first)))


def test_the_shared_model_is_the_federated_run(federation):
    model = federation.new_model()
    run(model, federation.clients, federation.strategy, federation.plan)
    snapshot = last(federation, Shared())
    for member, logits in zip(federation.members, answers(federation, snapshot), strict=True):
        assert torch.equal(logits, predict(model, member.test.data))


ENDS = {
    "no epoch of fine-tuning": (Afterwards("epochs", (), stopped=False), 0),
    "an infinite pull": (Afterwards("lam", ()), math.inf),
    "nothing private": (Together(), 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_that_are_the_shared_model(name, federation):
    method, number = ENDS[name]
    ends = (last(federation, *one) for one in ((method, number), (Shared(),)))
    for got, expected in zip(*(answers(federation, end) for end in ends), strict=True):
        assert torch.allclose(got, expected, atol=1e-6)


def test_ditto_with_an_infinite_pull_lags_the_shared_model_by_a_round(federation):
    """The own model is the global one that its client last received."""
    everybody = replace(federation, plan=replace(federation.plan, clients_per_round=None))
    method = Together(lambda c, lam: Ditto(c, lam=lam))
    own = last(everybody, method, math.inf)
    before = replace(everybody, plan=replace(everybody.plan, rounds=3), every=1)
    shared = last(before, Shared())
    for client, member in enumerate(federation.members):
        rows = member.train
        got = own.answer(client)(rows)  # its own words only
        assert torch.allclose(got, shared.answer(client)(rows), atol=1e-6)


class Fixed:
    """A method whose models answer with given logits."""

    tries = ()

    def __init__(self, logits):
        self.logits = logits

    def snapshots(self, federation, number):
        yield Snapshot(federation.plan.rounds, lambda _: self.logits, lambda _: self.logits)


def test_a_mixture_takes_what_is_better_by_validation(federation):
    """Knows all: the mixture is its; knows nothing for sure: the mixture is the shared model."""

    def knows(reviews):
        return 20.0 * torch.nn.functional.one_hot(reviews.labels, 2).float()

    def wrong(reviews):
        return -knows(reviews)

    shared = last(federation, Shared())
    for logits, expected in ((knows, knows), (wrong, shared.answer(0))):
        mixed = last(federation, Mixed(Fixed(logits)))
        for client, member in enumerate(federation.members):
            got = mixed.answer(client)(member.test.data).softmax(1)
            assert torch.allclose(got, expected(member.test.data).softmax(1), atol=1e-5)


def test_another_shared_model_has_other_weights_and_is_nobodys_own(federation):
    one, other = last(federation, Shared()), last(federation, Shared(another=True))
    test = federation.members[0].test.data
    assert not torch.equal(one.answer(0)(test), other.answer(0)(test))
    assert torch.equal(other.answer(0)(test), other.answer(3)(test))
    both = last(federation, METHODS["twice"])
    assert both.bytes_up == pytest.approx(2 * one.bytes_up, rel=0.1)


def test_what_stays_private_costs_no_bytes(federation):
    sent = {
        name: last(federation, METHODS[name]).bytes_up for name in ("shared", "fedper", "own_words")
    }
    assert sent["fedper"] < sent["shared"]
    assert sent["own_words"] == sent["shared"]


def test_several_models_cost_downloads(federation):
    one, two = (last(federation, Clustered(), number) for number in (1, 2))
    assert one.bytes_up == two.bytes_up
    assert two.total_bytes > one.total_bytes


def test_from_random_starts_all_rounds_are_of_several_models(federation):
    """Every round sends both models down; a warm start sends one for its first rounds."""
    warm, random = (last(federation, Clustered(warm=warm), 2) for warm in (True, False))
    one = last(federation, Clustered(warm=False), 1)
    assert random.total_bytes - random.bytes_up == 2 * (one.total_bytes - one.bytes_up)
    assert random.total_bytes > warm.total_bytes
    assert set(random.groups) <= {0, 1}


def test_the_best_shared_round_is_the_best_by_validation(federation):
    scores = {
        at: federation.validation_score(lambda client, w=w: federation.answer_of(w))
        for at, (w, _, _) in federation.shared.items()
    }
    assert list(scores) == [2, 4]
    assert scores[federation.best_shared_round] == max(scores.values())


def test_clients_are_scored_in_their_order_whatever_thread_asks(federation):
    snapshot = last(federation, METHODS["fedper"])
    asked = []

    def answer(client):
        asked.append(client)
        return snapshot.answer(client)

    tests = [member.test for member in federation.members]
    each = zip(tests, answers(federation, snapshot), strict=True)
    alone = [test.accuracy(test.right(logits)) for test, logits in each]
    assert (
        list(replace(federation, plan=replace(federation.plan, workers=3)).scores(answer)) == alone
    )
    assert asked == list(range(len(tests)))


def test_a_shared_model_is_judged_once(federation, monkeypatch):
    federation = replace(federation, judged={})
    weights = federation.shared[4][0]
    first = federation.shared_scores(4, weights)
    assert first == tuple(federation.scores(lambda client: federation.answer_of(weights)))
    monkeypatch.setattr(Federation, "scores", None)
    assert federation.shared_scores(4, weights) == first


def test_models_of_a_federation_answer_side_by_side(federation):
    """Asking one in two threads must not bring back its dropout in the one that is still busy."""
    model = federation.model_of(federation.shared[4][0])
    assert not any(module.training for module in model.modules())


def test_validation_accuracy_by_hand(federation):
    """Always label 1: the mean over clients of their shares of it."""
    shares = [m.validation.labels.double().mean().item() for m in federation.members]
    always = torch.tensor([0.0, 1.0])
    got = federation.validation_score(lambda client: lambda reviews: always.expand(len(reviews), 2))
    assert got == pytest.approx(sum(shares) / 4)
