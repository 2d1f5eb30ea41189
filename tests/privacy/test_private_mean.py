"""The private mean by hand, what it must equal without noise, and what would leak beside it."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers import LocalConfig, Plan, rounds, run, state, strategies, wire
from fedlab_helpers.compression import Compressed, Sign, TopK, WithFeedback
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.strategies.drift import FedProx
from fedlab_helpers.strategies.fairness import TellsLoss
from fedlab_helpers.strategies.robust import Clipped

LOCAL = LocalConfig(1, 4, 0.1, "sgd", max_grad_norm=None)
PLAN = Plan(3, 2, LOCAL, seed=5, workers=1, sampling="poisson")
BASE = {"w": torch.zeros(2)}
PLAIN = PrivateMean(5.0, 0.0, clients=4, cohort=2, sampling="fixed")


def sent(*values, **told):
    return Update(0, {"w": torch.tensor(values, dtype=torch.float32)}, **told)


def end(small_model, clients, strategy, plan=PLAN, **options):
    model = small_model()
    history = run(model, clients, strategy, plan, **options)
    return history, state.of_model(model)


def test_by_hand():
    """(6, 8) has norm 10 and is halved, (1, 2) stays; a cohort of 2 is expected, whoever comes."""
    updates = [sent(6, 8, examples=99), sent(1, 2, examples=1)]
    assert PLAIN(BASE, updates)["w"].tolist() == [2.0, 3.0]
    assert PLAIN(BASE, updates[:1])["w"].tolist() == [1.5, 2.0]
    assert PLAIN(BASE, updates + updates[1:])["w"].tolist() == [2.5, 4.0]
    assert PLAIN(BASE, [])["w"].tolist() == [0.0, 0.0]


def test_a_tensors_share_of_the_norm_is_that_of_the_whole_change():
    base = BASE | {"b": torch.zeros(1)}
    update = Update(0, {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])})
    mean = replace(PLAIN, clip=1.0, cohort=1)(base, [update])
    assert mean["w"].tolist() == pytest.approx([0.6, 0])
    assert mean["b"].tolist() == pytest.approx([0.8])


def test_updates_are_gone_through_once_and_one_at_a_time():
    taken = []

    def stream():
        for value in (1.0, 2.0):
            taken.append(value)
            yield sent(value, 0)

    updates = stream()
    assert PLAIN(BASE, updates)["w"].tolist() == [1.5, 0]
    assert (taken, list(updates)) == ([1.0, 2.0], [])


def test_rows_that_are_sent_all_the_same_count_as_the_whole_tensor():
    base = {"table": torch.zeros(3, 1)}
    update = Update(0, {"table": torch.tensor([[30.0], [40.0]])}, {"table": torch.tensor([0, 2])})
    assert PLAIN(base, [update])["table"].flatten().tolist() == [1.5, 0, 2.0]


@given(
    changes=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), max_size=5),
    clip=st.floats(1e-3, 1e3),
    extra=st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=2, max_size=2),
)
def test_one_client_more_moves_the_sum_by_no_more_than_the_norm(changes, clip, extra):
    mean, base = replace(PLAIN, clip=clip, cohort=1), {"w": torch.zeros(2, dtype=torch.float64)}
    without = [sent(*change) for change in changes]
    moved = state.subtract(mean(base, [*without, sent(*extra)]), mean(base, without))
    assert state.norm(moved) <= clip * (1 + 1e-9)


def test_noise_has_its_standard_deviation_on_every_value_of_the_mean():
    """Noise multiplier 3 and norm 2 are 6 on the sum, so 1.5 on the mean over four."""
    base = {"a": torch.zeros(200, 100), "b": torch.zeros(10_000)}
    mean = PrivateMean(2.0, 3.0, clients=9, cohort=4, sampling="poisson")(base, [])
    for values in mean.values():
        assert float(values.std()) == pytest.approx(1.5, rel=0.03)
        assert float(values.mean()) == pytest.approx(0, abs=0.05)
    assert bool((mean["a"][0] != mean["a"][1]).all())


@pytest.mark.parametrize("codec", [None, wire.dense()])
def test_without_noise_and_norm_it_is_the_plain_mean_bit_for_bit(small_model, clients, bits, codec):
    free, plan = PrivateMean(math.inf, 0.0), Plan(3, local=LOCAL, seed=5)
    ours, theirs = (
        end(small_model, clients, strategy, plan, codec=codec)
        for strategy in (Strategy(free), strategies.uniform())
    )
    assert bits(ours[1]) == bits(theirs[1])
    assert [r.told for r in ours[0]] == [{"epsilon": math.inf}] * 3
    assert all(r.repeatable for r in ours[0])
    assert [r.told for r in theirs[0]] == [{}] * 3


def test_where_half_of_the_cohort_drops_out_half_of_the_change_is_left(small_model, reviews):
    """Four clients with the same reviews and full batches; the missing ones count as no change."""
    clients = [reviews(8, 0)] * 4
    plan = Plan(1, local=replace(LOCAL, batch_size=None), dropout_rate=0.5)
    start, moves, free = state.of_model(small_model()), {}, Strategy(PrivateMean(math.inf, 0.0))
    for seed in range(12):
        (record,), after = end(small_model, clients, free, replace(plan, seed=seed))
        moves[4 - len(record.left_out)] = state.norm(state.subtract(after, start))
    assert moves.keys() >= {1, 2, 3}
    assert moves[2] == pytest.approx(2 * moves[1], rel=1e-4)
    assert moves[3] == pytest.approx(3 * moves[1], rel=1e-4)


class Unreadable:
    """A client's side that sends no finite value: the books refuse it."""

    def __call__(self, update, kept, rng):
        return replace(update, delta={n: t * math.nan for n, t in update.delta.items()}), kept


def test_nobodys_sum_is_noise_alone(small_model, clients):
    """A cohort of nobody, and one of which every update is refused, cannot be told apart."""
    start, private = state.of_model(small_model()), strategies.private(1.0, 4.0, beta=0.0)
    nobody = replace(PLAN, rounds=1, clients_per_round=1)
    seed = next(s for s in range(99) if not sample_cohort(replace(nobody, seed=s), 1, 4))
    empty = end(small_model, clients, private, replace(nobody, seed=seed))
    refused = end(small_model, clients, private, Plan(1, 1, LOCAL), transforms=[Unreadable()])
    for (record,), after in (empty, refused):
        assert (record.examples, record.client_losses) == (0, {})
        moved = state.flatten(state.subtract(after, start))
        assert float(moved.std()) == pytest.approx(4.0, rel=0.15)
        assert 0 < record.told["epsilon"] < 10
    assert (empty[0][0].cohort, len(refused[0][0].left_out)) == ((), 1)


def test_noise_is_another_each_time_and_the_records_say_so(small_model, clients, bits):
    (one, first), (_, second) = (end(small_model, clients, strategies.private()) for _ in range(2))
    assert bits(first) != bits(second)
    assert not any(record.repeatable for record in one)


def test_for_teaching_it_can_be_drawn_again_and_each_round_draws_its_own(
    small_model, clients, bits
):
    shown = strategies.private(beta=0.0, repeatable=True)
    (one, first), (_, second) = (end(small_model, clients, shown) for _ in range(2))
    assert bits(first) == bits(second)
    assert all(record.repeatable for record in one)
    still = Plan(1, local=replace(LOCAL, lr=1e-9), seed=5)
    one, other = (end(small_model, clients, shown, replace(still, seed=s))[1] for s in (5, 6))
    assert state.norm(state.subtract(one, other)) > 1
    mean = PrivateMean(1.0, 1.0, 4, 2, "poisson", repeatable=True, number=1)
    draws = [mean(BASE, []), replace(mean, number=2)(BASE, []), replace(mean, seed=1)(BASE, [])]
    assert len({tuple(draw["w"].tolist()) for draw in draws}) == 3


@pytest.mark.parametrize(
    ("plan", "sampling"),
    [
        (PLAN, "poisson"),
        (replace(PLAN, sampling="fixed"), "fixed"),
        (replace(PLAN, sampling="fixed", clients_per_round=None), "all"),
        (replace(PLAN, clients_per_round=4), "all"),
    ],
)
def test_epsilon_is_that_of_the_accountant(small_model, clients, plan, sampling):
    history, _ = end(small_model, clients, strategies.private(0.5, 1.5, delta=1e-3), plan)
    account = Mechanism(1.5, 3, 4, plan.clients_per_round or 4, sampling, delta=1e-3)
    expected = [replace(account, rounds=done).epsilon() for done in (1, 2, 3)]
    assert [record.told for record in history] == [{"epsilon": value} for value in expected]
    assert expected == pytest.approx(account.epsilon_by_round(), rel=1e-3)
    assert history.to_frame()["epsilon"].tolist() == expected


def test_a_run_goes_on_from_a_checkpoint_with_its_noise_and_its_account(
    small_model, clients, bits, tmp_path
):
    shown, plan = strategies.private(repeatable=True), replace(PLAN, rounds=4)
    history, whole = end(small_model, clients, shown, plan)
    first = rounds(small_model(), clients, shown, plan, checkpoint=tmp_path)
    list(itertools.islice(first, 2))
    first.close()
    again, parted = end(small_model, clients, shown, plan, checkpoint=tmp_path)
    assert bits(parted) == bits(whole)
    assert [record.told for record in again] == [record.told for record in history]


def test_every_row_gets_noise_and_none_is_named(small_model, clients):
    start = state.of_model(small_model())
    _, after = end(small_model, clients, strategies.private(), codec=wire.touched_rows())
    moved = (after["embedding.weight"] - start["embedding.weight"]).abs().sum(1)
    assert bool((moved > 0).all())
    assert strategies.private().dense


@dataclass(frozen=True)
class Louder:
    """A client that sends a thousand times what it should."""

    def __call__(self, update, kept, rng):
        return replace(update, delta={n: 1e3 * t for n, t in update.delta.items()}), kept


@pytest.mark.parametrize(
    "options",
    [
        {"transforms": [Louder()]},
        {"codec": Compressed(TopK(0.2), Sign())},
        {"codec": WithFeedback(Compressed(TopK(0.05)))},
    ],
    ids=["a liar", "signs", "feedback"],
)
def test_the_server_does_not_trust_that_a_change_is_short(small_model, clients, options):
    """A round moves the weights by at most the norm, here 0.01, whatever clients and codec do."""
    mean, before = PrivateMean(0.01, 0.0), state.of_model(small_model())
    model = small_model()
    plan = Plan(3, local=LOCAL, workers=1)
    for _ in rounds(model, clients, Strategy(mean), plan, **options):
        after = state.of_model(model)
        assert 0 < state.norm(state.subtract(after, before)) <= 0.01 * (1 + 1e-4)
        before = after


def test_clients_may_clip_as_well(small_model, clients):
    mean, plan = PrivateMean(0.05, 0.0), Plan(2, local=LOCAL)
    one = end(small_model, clients, Strategy(mean), plan)[1]
    both = end(small_model, clients, Strategy(mean), plan, transforms=[mean.transform])[1]
    assert state.norm(state.subtract(one, both)) < 1e-5
    assert PrivateMean(math.inf, 0.0).transform is None


def test_what_stays_with_its_client_gets_no_noise(small_model, clients):
    """Each client's head is its own; of a head that nobody trains, nothing may move."""
    local, states = replace(LOCAL, lr=1e-9), {}
    options = {"shared": strategies.personal.keep_private("head"), "client_states": states}
    _, after = end(small_model, clients, strategies.private(), Plan(1, local=local), **options)
    start = state.of_model(small_model())
    for own in states.values():
        assert (
            state.norm(state.subtract(own["private"], {n: start[n] for n in own["private"]})) < 1e-6
        )
    assert float((after["recurrent.bias_hh_l0"] - start["recurrent.bias_hh_l0"]).std()) > 0.1


def test_local_training_may_be_another(small_model, clients):
    history, _ = end(small_model, clients, FedProx(PrivateMean(1.0, 1.0), mu=0.1))
    assert history[-1].told["epsilon"] > 0


class Normed(nn.Module):
    """A model with running statistics."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.head = (
            nn.Embedding(50, 4),
            nn.BatchNorm1d(4),
            nn.Linear(4, 2),
        )

    def forward(self, tokens, lengths):
        return self.head(self.norm(self.embedding(tokens).mean(1)))


class Counting(nn.Module):
    """A model with a weight that is a counter."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 4), nn.Linear(4, 2)
        self.seen = nn.Parameter(torch.tensor(3), requires_grad=False)

    def forward(self, tokens, lengths):
        return self.head(self.embedding(tokens).mean(1))


MEAN = PrivateMean(1.0, 1.0)
FIXED = replace(PLAN, sampling="fixed")


class Own(Strategy):
    def aggregate(self, server, updates):
        return super().aggregate(server, updates)


@pytest.mark.parametrize(
    ("strategy", "plan", "message"),
    [
        (Strategy(replace(MEAN, clients=5)), PLAN, "clients: got 5, expected 4, as in the run"),
        (Strategy(replace(MEAN, cohort=3)), PLAN, "cohort: got 3, expected 2, as in the run"),
        (
            Strategy(replace(MEAN, sampling="poisson")),
            FIXED,
            "sampling: got 'poisson', expected 'fi",
        ),
        (
            Strategy(replace(MEAN, sampling="fixed")),
            PLAN,
            "sampling: got 'fixed', expected 'poisso",
        ),
        (Strategy(replace(MEAN, sampling="all", clients=4, cohort=4)), PLAN, "cohort: got 4, exp"),
        (Strategy(MEAN, sends="weights"), PLAN, "sends: got 'weights', expected 'change'"),
        (TellsLoss(MEAN), PLAN, r"sends beside it: got \['loss.*TellsLoss would use it without"),
        (Own(MEAN), PLAN, "strategy: got 'Own', expected one that aggregates by nothing but"),
    ],
)
def test_what_does_not_fit_is_refused_before_anybody_trains(
    small_model, clients, strategy, plan, message
):
    with pytest.raises(ValueError, match=message):
        rounds(small_model(), clients, strategy, plan)


def test_models_that_would_tell_more_are_refused(clients):
    with pytest.raises(ValueError, match=r"model: buffers: got \['norm.num_.* without noise"):
        rounds(Normed(), clients, Strategy(MEAN), PLAN)
    with pytest.raises(
        ValueError, match=r"model: weights: got \['seen'\], expected floating-point"
    ):
        rounds(Counting(), clients, Strategy(MEAN), PLAN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrivateMean(0.0, 1.0), "clip: got 0.0, expected a finite number above 0, or inf"),
        (lambda: PrivateMean(math.inf, 1.0), "clip: got inf, expected a finite number above 0, or"),
        (lambda: PrivateMean(math.nan, 0.0), "clip: got nan"),
        (
            lambda: PrivateMean(1.0, -1.0),
            "noise_multiplier: got -1.0, expected a finite number not",
        ),
        (lambda: PrivateMean(1.0, math.inf), "noise_multiplier: got inf"),
        (lambda: PrivateMean(1.0, 1.0, delta=1.0), "delta: got 1.0"),
        (lambda: PrivateMean(1.0, 0.0, delta=0.0), "delta: got 0.0"),
        (lambda: PrivateMean(1.0, 1.0, 4, 5), "cohort: got 5, expected at most 4"),
        (lambda: PrivateMean(1.0, 1.0, cohort=0), "clients: got 0|cohort: got 0"),
        (lambda: PrivateMean(1.0, 1.0, sampling="coins"), "sampling: got 'coins'"),
        (lambda: PrivateMean(1.0, 1.0, 4, 2, "all"), "cohort: got 2, expected 4, everybody"),
        (lambda: MEAN(BASE, []), "cohort: got None, expected the number to divide by"),
        (lambda: Clipped(1.0, MEAN), "combine: got PrivateMean.* need not know plan and round"),
    ],
)
def test_errors_name_argument_value_and_what_is_accepted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_plain_mean_tells_nothing(small_model, clients):
    (record, *_), _ = end(small_model, clients, Strategy(Mean("uniform")), Plan(1, local=LOCAL))
    assert record.told == {}


def test_noise_moves_no_weight_that_is_frozen(small_model, clients):
    model, told = small_model(), r"model: frozen weights: got \['embedding.weight'\].*`shared`"
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    with pytest.raises(ValueError, match=told):
        rounds(model, clients, Strategy(MEAN), PLAN)
    run(model, clients, Strategy(MEAN), PLAN, shared=lambda name: "embedding" not in name)
    run(model, clients, Strategy(PrivateMean(1.0, 0.0)), PLAN)
    assert torch.equal(model.embedding.weight, before)
