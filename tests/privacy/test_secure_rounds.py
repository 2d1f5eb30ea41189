"""Secure sums in the round loop: the same mean, whoever drops out, and no more for the server."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers import LocalConfig, Plan, rounds, run, state, strategies, wire
from fedlab_helpers.compression import Compressed
from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.core.checkpoint import CheckpointError
from fedlab_helpers.core.history import NoUpdateLeft, RoundBooks
from fedlab_helpers.core.messages import Reply, Update
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.privacy.noise import Clip
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.secure import SecureSum, Server, masks
from fedlab_helpers.privacy.secure.rounds import Party, collect, pack, unpack

LOCAL = LocalConfig(1, 4, 0.1, "sgd", max_grad_norm=None)
PLAN = Plan(2, local=LOCAL, seed=5, workers=1)
FINE = SecureSum(32, 1.0, 20)
MEAN = {"w": torch.zeros(3)}


def end(small_model, clients, strategy, plan=PLAN, **options):
    model = small_model()
    history = run(model, clients, strategy, plan, **options)
    return history, state.of_model(model)


def apart(left, right):
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("weights", ["examples", "uniform"])
@pytest.mark.parametrize("bits_of_ring", [8, 16, 32])
def test_masks_change_no_bit(small_model, clients, bits, monkeypatch, weights, bits_of_ring):
    secure, plan = SecureSum(bits_of_ring, 1.0, 20), replace(PLAN, dropout_rate=0.2, rounds=3)
    strategy = Strategy(Mean(weights))
    _, masked = end(small_model, clients, strategy, plan, secure=secure)
    for change in ("add_mask", "subtract_mask"):
        monkeypatch.setattr(masks, change, lambda vector, seed: None)
    _, plain = end(small_model, clients, strategy, plan, secure=secure)
    assert bits(masked) == bits(plain)


@pytest.mark.parametrize("strategy", [strategies.fedavg(), Strategy(Mean("uniform"))])
def test_the_run_is_that_without_secure_sums_but_for_the_rounding(small_model, clients, strategy):
    _, without = end(small_model, clients, strategy)
    _, fine = end(small_model, clients, strategy, secure=FINE)
    _, coarse = end(small_model, clients, strategy, secure=replace(FINE, bits=8))
    assert 0 < apart(fine, without) < 1e-6
    assert 1e-4 < apart(coarse, without) < 2 * 2 * FINE.clip / 31  # steps in two rounds


def test_the_server_books_sums_only(small_model, clients):
    (plain, *_), _ = end(small_model, clients, strategies.fedavg())
    (record, *_), _ = end(small_model, clients, strategies.fedavg(), secure=FINE)
    assert (record.examples, record.steps) == (plain.examples, 0)
    assert list(record.client_losses) == [0, 1, 2, 3]
    assert all(map(math.isnan, record.client_losses.values()))
    vectors = 4 * 4 * (1 + sum(t.numel() for t in small_model().parameters()))
    assert vectors < record.bytes_up < vectors + 8_000
    (record, *_), _ = end(small_model, clients, Strategy(Mean("uniform")), secure=FINE)
    assert record.examples == 0


def test_who_drops_out_is_left_out_and_the_mean_is_that_of_the_others(small_model, clients):
    plan = replace(PLAN, dropout_rate=0.3, seed=6, rounds=1)
    (plain, *_), without = end(small_model, clients, strategies.fedavg(), plan)
    (record, *_), fine = end(small_model, clients, strategies.fedavg(), plan, secure=FINE)
    assert record.left_out == plain.left_out
    assert 0 < len(record.left_out) < 2
    assert list(record.client_losses) == list(plain.client_losses)
    assert apart(fine, without) < 1e-6


def test_where_too_few_are_left_there_is_no_sum(small_model, clients):
    plan = replace(PLAN, dropout_rate=0.7, seed=4)
    with pytest.raises(
        NoUpdateLeft, match=r"no sum: survivors: got '1 clients', expected at least 3"
    ):
        end(small_model, clients, strategies.fedavg(), plan, secure=FINE)


def test_where_there_is_no_sum_clients_keep_nothing_of_the_round(small_model, clients):
    class Counts:
        def __call__(self, update, kept, rng):
            return update, {"n": kept.get("n", torch.zeros(())) + 1}

    kept, plan = {}, replace(PLAN, dropout_rate=0.5, rounds=6, seed=3)
    strategy = Strategy(PrivateMean(1.0, 0.0))
    options = {"transforms": [Counts()], "secure": FINE, "client_states": kept}
    history, _ = end(small_model, clients, strategy, plan, **options)
    assert any("no sum" in why for record in history for why in record.left_out.values())
    for client, own in kept.items():
        accepted = sum(client in record.client_losses for record in history)
        assert int(own["transform0"]["n"]) == accepted


def test_a_client_with_more_examples_than_was_said_is_left_out(small_model, clients):
    (record, *_), _ = end(
        small_model, clients, strategies.fedavg(), secure=replace(FINE, most_examples=12)
    )
    assert list(record.left_out) == [2]
    assert "examples: got 20, expected 0 to 12" in record.left_out[2]


def test_what_clients_keep_is_kept_and_a_run_goes_on_from_a_checkpoint(
    small_model, clients, bits, tmp_path
):
    shared = "recurrent".__contains__
    options = {"secure": FINE, "shared": lambda name: shared(name.split(".")[0])}
    _, whole = end(small_model, clients, strategies.fedavgm(), client_states={}, **options)
    for count in (1, 2):
        kept = {}
        plan = replace(PLAN, rounds=count)
        options |= {"checkpoint": tmp_path, "client_states": kept}
        _, resumed = end(small_model, clients, strategies.fedavgm(), plan, **options)
    assert bits(resumed) == bits(whole)
    assert set(kept) == {0, 1, 2, 3}
    assert "embedding.weight" in kept[0]["private"]
    options["secure"] = replace(FINE, bits=16)
    with pytest.raises(CheckpointError, match="another run"):
        end(small_model, clients, strategies.fedavgm(), **options)


def test_the_servers_step_may_be_any_and_the_weights_may_come_as_changes(small_model, clients):
    options = {"downlink": Changes(Compressed())}
    _, without = end(small_model, clients, strategies.fedadam(), **options)
    _, fine = end(small_model, clients, strategies.fedadam(), secure=FINE, **options)
    assert apart(fine, without) < 0.05  # Adam divides by what is nearly nothing


# A server that cheats.


def test_where_models_differ_the_masks_do_not_cancel(small_model, clients, monkeypatch):
    def mask(self, inbox, vector, context=b""):
        return honest(self, inbox, vector, context + bytes([self.number == 2]))

    honest = Party.mask
    monkeypatch.setattr(Party, "mask", mask)
    with pytest.raises(NoUpdateLeft, match=r"no sum: total: got .* do masks not cancel"):
        end(small_model, clients, strategies.fedavg(), secure=FINE)


def test_what_clients_received_is_what_they_bind(small_model, clients, monkeypatch):
    bound = []

    def mask(self, inbox, vector, context=b""):
        bound.append(wire.dense().decode(context))
        return honest(self, inbox, vector, context)

    honest = Party.mask
    monkeypatch.setattr(Party, "mask", mask)
    end(small_model, clients, strategies.fedavg(), replace(PLAN, rounds=1), secure=FINE)
    first = state.of_model(small_model())
    assert len(bound) == 4
    assert all(apart(held, first) == 0 for held in bound)


# Messages.


@given(st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20), max_size=5))
def test_a_table_comes_back(table):
    assert unpack(pack(table)) == table


@pytest.mark.parametrize("cut", [1, 5, 12, 14])
def test_a_table_that_is_cut_is_refused(cut):
    with pytest.raises(ValueError, match="expected whole items"):
        unpack(pack({1: b"abc", 2: b""})[:cut])
    with pytest.raises(ValueError, match="each client once"):
        unpack(2 * pack({1: b"abc"}))


def parties(spoil, cohort=(0, 1, 2, 3)):
    """Return the sum over clients with vectors of their number, one of whom spoils a message."""
    secure, values = SecureSum(share=0.6), {n: np.full(3, n, np.uint16) for n in cohort}
    books = RoundBooks(1, cohort, wire.dense(), MEAN)
    members = {n: Party(secure, strategies.fedavg(), 0, n, 1, len(cohort)) for n in cohort}

    def ask(phase, messages):
        for who, message in messages.items():
            if phase == "mask":
                payload = members[who].mask(unpack(message), values[who], b"model").tobytes()
            else:
                payload = members[who].answer(phase, message)
            yield spoil(phase, who, payload)

    server = Server(secure.threshold(len(cohort)), 1, b"model")
    return *collect(server, cohort, np.empty(3, np.uint16), ask, books), books


@pytest.mark.parametrize("phase", ["advertise", "share", "mask"])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(40), None])
@pytest.mark.parametrize("client", [0, 3])
def test_a_client_that_spoils_a_message_is_left_out(phase, payload, client):
    """Were the first vector's length believed, its sender would shut out all others."""

    def spoil(now, who, sent):
        if (now, who) != (phase, client):
            return Reply(who, sent)
        return Reply(who, payload) if payload is not None else Reply(who, failure="gone")

    total, alive, books = parties(spoil)
    others = tuple({0, 1, 2, 3} - {client})
    assert (total.tolist(), alive) == ([sum(others)] * 3, others)
    assert list(books.left_out) == [client]


@pytest.mark.parametrize("payload", [b"", b"x", pack({0: bytes(66)}), None])
def test_who_falls_silent_after_its_vector_is_in_the_sum(payload):
    def spoil(now, who, sent):
        if (now, who) != ("unmask", 3):
            return Reply(who, sent)
        return Reply(who, payload) if payload is not None else Reply(who, failure="gone")

    total, alive, books = parties(spoil)
    assert (total.tolist(), alive, books.left_out) == ([6, 6, 6], (0, 1, 2, 3), {})


# With a private mean.


def test_a_private_mean_needs_no_more_than_the_sum(small_model, clients):
    strategy = Strategy(PrivateMean(0.05, 0.0))
    plan = replace(PLAN, clients_per_round=3, sampling="poisson", rounds=6)
    plain, without = end(small_model, clients, strategy, plan)
    history, fine = end(small_model, clients, strategy, plan, secure=replace(FINE, clip=0.05))
    few = [r.round for r in history if len(r.cohort) < 2]
    assert few == []  # of this seed
    assert [r.cohort for r in history] == [r.cohort for r in plain]
    assert apart(fine, without) < 1e-6


def test_noise_covers_what_rounding_adds(small_model, clients):
    """Of a clip that is next to nothing, the noise is that of the rounding."""
    strategy, coarse = Strategy(PrivateMean(1e-9, 1.0, repeatable=True)), SecureSum(8, 1.0)
    history, moved = end(small_model, clients, strategy, replace(PLAN, rounds=1), secure=coarse)
    first = state.of_model(small_model())
    values = state.flatten(state.subtract(moved, first))
    expected = math.sqrt(len(values)) / 31 / len(clients)  # sqrt(d) steps, in a mean of four
    assert float(values.std()) == pytest.approx(expected, rel=0.15)
    assert history[0].told == {"epsilon": pytest.approx(4.377, abs=1e-3)}


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([8, 16, 32]), st.data())
def test_no_change_is_longer_than_clip_and_slack(values, ring, data):
    secure, like = SecureSum(ring, 0.3), {"w": torch.zeros(len(values))}
    clients, norm = data.draw(st.integers(2, 50)), data.draw(st.floats(0.01, 2))
    strategy = Strategy(PrivateMean(norm, 0.0))
    update = Update(0, {"w": torch.tensor(values)}, losses=(0.0,))
    sent = secure.encode(update, like, strategy, clients, np.random.default_rng(0))
    decoded = secure.decode(sent, like, strategy, clients, [0]).delta["w"]
    assert float(decoded.norm()) <= (norm + secure.slack(len(values), clients)) * (1 + 1e-6)


# What is refused.


class Settling(Strategy):
    settles = True


def test_a_roster_larger_than_was_said_is_refused():
    """The threshold, and the ring's room, are those of the cohort that was announced."""
    members = {n: Party(FINE, Strategy(), 0, n, 1, 4) for n in range(5)}
    keys = {n: member.answer("advertise", b"") for n, member in members.items()}
    with pytest.raises(ValueError, match="roster: got 5, expected 4 at most, as was said"):
        members[0].answer("share", pack(keys))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, tokens, lengths):
        return self.head(self.norm(tokens[:, :3].float()))


@pytest.mark.parametrize(
    ("strategy", "plan", "options", "message"),
    [
        (
            strategies.median(),
            PLAN,
            {},
            "combines by: got .*Median.* expected one that needs their mean",
        ),
        (strategies.krum(), PLAN, {}, "combines by: got .*Krum"),
        (strategies.rowwise(), PLAN, {}, "combines by: got Mean.*per_row=True.*or at rows"),
        (strategies.fednova(), PLAN, {}, "combines by: got"),
        (strategies.scaffold(), PLAN, {}, "sends beside it|aggregates by nothing"),
        (strategies.qfedavg(), PLAN, {}, "aggregates by nothing|sends beside|combines by"),
        (Strategy(sends="weights"), PLAN, {}, "sends: got 'weights'"),
        (Settling(), PLAN, {}, "strategy: got 'Settling', expected one whose clients need not"),
        (strategies.fedavg(), PLAN, {"codec": Compressed()}, "codec: got .* as with secure sums"),
        (
            strategies.fedavg(),
            PLAN,
            {"secure": SecureSum()},
            "most_examples: got None, expected the most that one client has",
        ),
        (strategies.fedavg(), replace(PLAN, clients_per_round=1), {}, "clients_per_round: got 1"),
    ],
)
def test_what_needs_more_than_a_sum_is_refused(
    small_model, clients, strategy, plan, options, message
):
    with pytest.raises(ValueError, match=message):
        rounds(small_model(), clients, strategy, plan, **{"secure": FINE} | options)


def test_models_with_buffers_and_rings_without_room_are_refused(small_model, clients, reviews):
    with pytest.raises(ValueError, match=r"model: buffers: got \['norm.num_"):
        rounds(Normed(), clients, strategies.fedavg(), PLAN, secure=FINE)
    many = [reviews(2)] * 128
    with pytest.raises(ValueError, match="clients: got 128, expected at most 127 with bits=8"):
        rounds(small_model(), many, strategies.fedavg(), PLAN, secure=replace(FINE, bits=8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SecureSum(12), "bits: got 12"),
        (lambda: SecureSum(clip=0.0), "clip: got 0.0"),
        (lambda: SecureSum(most_examples=0), "most_examples: got 0"),
        (lambda: SecureSum(share=0.5), "share: got 0.5, expected a number above 1/2, at most 1"),
        (lambda: SecureSum(share=1.1), "share: got 1.1"),
        (
            lambda: Party(FINE, Strategy(), 0, 0, 1, 3).answer("guess", b""),
            "phase: got 'guess'",
        ),
    ],
)
def test_errors_name_argument_value_and_what_is_accepted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_clip_as_a_transform_is_no_obstacle(small_model, clients):
    _, once = end(small_model, clients, strategies.fedavg(), secure=FINE, transforms=[Clip(0.1)])
    _, without = end(small_model, clients, strategies.fedavg(), transforms=[Clip(0.1)])
    assert apart(once, without) < 1e-6
