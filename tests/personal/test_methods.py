"""Every personal method on a small federation, and what must be equal."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.training import LocalConfig, predict
from fedlab_helpers.personal.federation import Course, Moment
from fedlab_helpers.personal.members import deal
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.personal.methods.afterwards import Afterwards
from fedlab_helpers.personal.methods.clustered import Clustered
from fedlab_helpers.personal.methods.mixed import Mixed
from fedlab_helpers.personal.methods.shared import Another, Shared
from fedlab_helpers.personal.methods.together import Together
from fedlab_helpers.strategies.personal import Ditto


@pytest.fixture(scope="module")
def federation(small_task):
    return deal(small_task, "by_domain", 0, clients=4, newcomers=2)


@pytest.fixture(scope="module")
def course(federation):
    plan = Plan(4, 3, LocalConfig(1, 8, 0.02), 0, workers=1)
    return Course(federation[0], 50, plan, every=2)


def answers(course, moment):
    return [moment.answer(k)(m.exam.reviews) for k, m in enumerate(course.members)]


def last(course, method, number=0.0):
    return list(method.moments(course, number))[-1]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_for_every_client_and_newcomer(name, course, federation):
    method = METHODS[name]
    moments = list(method.moments(course, (method.tries or (0.0,))[0]))
    assert moments[-1].round == course.plan.rounds
    for moment in moments:
        assert moment.round in (2, 4)
        assert all(torch.isfinite(logits).all() for logits in answers(course, moment))
        for data in (None, federation[1][0].train):
            logits = moment.welcome(data)(federation[1][0].exam.reviews)
            assert logits.shape == (len(federation[1][0].exam.reviews), 2)
        assert moment.total_bytes >= moment.bytes_up >= 0
        assert (moment.bytes_up > 0) == (name != "alone")


def test_a_moment_keeps_what_it_saw(course):
    """Looked at after the run has gone on, it answers as it did."""
    course = replace(course, every=1)
    for name in ("fedper", "ditto", "ifca", "shared"):
        moments = METHODS[name].moments(course, 2.0)
        first = next(moments)
        before = answers(course, first)
        list(moments)
        assert all(map(torch.equal, before, answers(course, first)))


def test_the_shared_model_is_the_federated_run(course):
    model = course.new_model()
    run(model, course.clients, course.strategy, course.plan)
    moment = last(course, Shared())
    for member, logits in zip(course.members, answers(course, moment), strict=True):
        assert torch.equal(logits, predict(model, member.exam.reviews))


ENDS = {
    "no epoch of fine-tuning": (Afterwards("epochs", (), stopped=False), 0),
    "an infinite pull": (Afterwards("lam", ()), math.inf),
    "nothing private": (Together(), 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_that_are_the_shared_model(name, course):
    method, number = ENDS[name]
    for got, expected in zip(
        answers(course, last(course, method, number)),
        answers(course, last(course, Shared())),
        strict=True,
    ):
        assert torch.allclose(got, expected, atol=1e-6)


def test_ditto_with_an_infinite_pull_lags_the_shared_model_by_a_round(course):
    """The own model is the global one that its client last received."""
    everybody = replace(course, plan=replace(course.plan, clients_per_round=None))
    method = Together(lambda c, lam: Ditto(c, lam=lam))
    own = last(everybody, method, math.inf)
    before = replace(everybody, plan=replace(everybody.plan, rounds=3), every=1)
    shared = last(before, Shared())
    for client, member in enumerate(course.members):
        rows = member.train
        got = own.answer(client)(rows)  # its own words only
        assert torch.allclose(got, shared.answer(client)(rows), atol=1e-6)


class Fixed:
    """A method whose models answer with given logits."""

    tries = ()

    def __init__(self, logits):
        self.logits = logits

    def moments(self, course, number):
        def answer(reviews):
            return self.logits(reviews)

        yield Moment(course.plan.rounds, lambda client: answer, lambda data: answer)


def test_a_mixture_takes_what_is_better_by_validation(course):
    """Knows all: the mixture is its; knows nothing for sure: the mixture is the shared model."""

    def knows(reviews):
        return 20.0 * torch.nn.functional.one_hot(reviews.labels, 2).float()

    def wrong(reviews):
        return -knows(reviews)

    shared = last(course, Shared())
    for logits, expected in (
        (knows, knows),
        (wrong, lambda reviews: shared.answer(0)(reviews)),
    ):
        mixed = last(course, Mixed(Fixed(logits)))
        for client, member in enumerate(course.members):
            got = mixed.answer(client)(member.exam.reviews).softmax(1)
            assert torch.allclose(got, expected(member.exam.reviews).softmax(1), atol=1e-5)


def test_another_shared_model_has_other_weights_and_is_nobodys_own(course):
    one, other = last(course, Shared()), last(course, Another())
    exam = course.members[0].exam.reviews
    assert not torch.equal(one.answer(0)(exam), other.answer(0)(exam))
    assert torch.equal(other.answer(0)(exam), other.answer(3)(exam))
    both = last(course, METHODS["twice"])
    assert both.bytes_up == pytest.approx(2 * one.bytes_up, rel=0.1)


def test_training_alone_sends_nothing(course):
    moment = last(course, METHODS["alone"], 0.01)
    assert (moment.bytes_up, moment.total_bytes) == (0, 0)


def test_what_stays_private_costs_no_bytes(course):
    sent = {
        name: last(course, METHODS[name]).bytes_up for name in ("shared", "fedper", "own_words")
    }
    assert sent["fedper"] < sent["shared"]
    assert sent["own_words"] == sent["shared"]


def test_several_models_cost_downloads(course):
    one, two = (last(course, Clustered(), number) for number in (1, 2))
    assert one.bytes_up == two.bytes_up
    assert two.total_bytes > one.total_bytes


def test_the_best_shared_round_is_the_best_by_validation(course):
    scores = {
        at: course.validation_accuracy(lambda client, w=w: course.answer_of(w))
        for at, (w, _, _) in course.shared.items()
    }
    assert list(scores) == [2, 4]
    assert scores[course.best_shared_round] == max(scores.values())


def test_validation_accuracy_by_hand(course):
    """Always label 1: the mean over clients of their shares of it."""
    shares = [m.validation.labels.double().mean().item() for m in course.members]
    always = torch.tensor([0.0, 1.0])
    got = course.validation_accuracy(lambda client: lambda reviews: always.expand(len(reviews), 2))
    assert got == pytest.approx(sum(shares) / 4)
