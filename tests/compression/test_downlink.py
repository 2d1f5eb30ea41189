"""From server to clients: changes add up, who missed some is caught up, and every byte counts."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Listening

from fedlab_helpers import strategies
from fedlab_helpers.compression import (
    Compressed,
    Float16,
    LowRank,
    Quantized,
    Sign,
    Ternary,
    TopK,
)
from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.rounds import Plan, rounds, run
from fedlab_helpers.core.training import LocalConfig

CODECS = {
    "exact": Compressed(),
    "float16": Compressed(write=Float16()),
    "top 10% sign": Compressed(TopK(0.1), Sign(), squeeze=3),
    "2 bits": Compressed(write=Quantized(2, stochastic=False)),
    "low rank": Compressed(LowRank(1)),
}
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
NOTHING = torch.Generator()


def weights(seed: int):
    rng = torch.Generator().manual_seed(seed)
    return {"table": torch.randn(30, 4, generator=rng), "bias": torch.randn(6, generator=rng)}


def moved(params, seed: int):
    """Return weights after a round that touched some rows of the table."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randperm(30, generator=rng)[:8]
    table = params["table"].clone()
    table[rows] += 0.1 * torch.randn(8, 4, generator=rng)
    return {"table": table, "bias": params["bias"] + 0.1 * torch.randn(6, generator=rng)}


def size_whole(params) -> int:
    return len(wire.dense().encode(params))


def catch_up(weights, payloads, codec):
    """Return what a real client holds after it applied the payloads that it missed, in order."""
    for payload in payloads:
        update = wire.unpack(payload, codec, 0)
        weights = state.add(weights, rows.make_whole(update, weights).delta)
    return weights


def begun(codec, known_start=True) -> wire.Downlink:
    return Changes(codec, known_start).begin(weights(0), {}, "table")


def test_without_changes_the_weights_are_sent_whole_to_each(bits):
    params = weights(0)
    received, link, size = wire.Downlink(params).deliver((3, 5))
    assert bits(received.weights) == bits(dict(sorted(params.items())))
    assert size == 2 * size_whole(params)
    assert link.to_state() == {}
    later = moved(params, 1)
    assert bits(link.advance(later, {}, NOTHING).deliver((1,))[0].weights) == bits(
        dict(sorted(later.items()))
    )


@each_codec
@settings(max_examples=12)
@given(
    cohorts=st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=8),
    lost=st.lists(st.sets(st.integers(0, 3)), min_size=8, max_size=8),
    known=st.booleans(),
)
def test_whoever_is_asked_holds_the_same_weights_bit_for_bit(bits, codec, cohorts, lost, known):
    """Each client applies what it missed, as a real one would, and is where the server thinks; it
    gets the weights whole where it has none, or did not answer, or they are less. Every byte is
    counted, and what is delivered is what was counted."""
    params = weights(0)
    link, own = begun(codec, known), dict.fromkeys(range(4), (0, params) if known else None)
    for number, cohort in enumerate(cohorts, 1):
        received, after, size = link.deliver(cohort)
        spent, most = 0, wire.Downlink(link.held, {}).deliver((0,))[2]
        for client in cohort:
            version, held = own[client] or (-1, None)  # no payload has brought the first weights
            payloads = [link.payloads.get(v) for v in range(version + 1, link.version + 1)]
            if None in payloads or sum(map(len, payloads)) > most:
                held, spent = link.held, spent + most
                assert client not in received.missed
            else:
                held, spent = catch_up(held, payloads, codec), spent + sum(map(len, payloads))
                assert received.missed[client] == payloads
            assert bits(held) == bits(received.weights)
            own[client] = link.version, held
        assert size == spent
        assert received.version == link.version
        gone = cohort & lost[number - 1]
        own |= dict.fromkeys(gone)
        params = moved(params, number)
        link = after.without(gone).advance(params, {}, torch.Generator().manual_seed(number))


def test_rows_that_did_not_change_are_not_sent():
    later = {**weights(0), "table": weights(0)["table"].clone()}
    later["table"][7] += 1.0
    link = begun(Compressed()).advance(later, {}, NOTHING)
    update = wire.unpack(link.payloads[1], Compressed(), 0)
    assert update.touched_rows["table"].tolist() == [7]
    assert update.delta["table"].shape == (1, 4)


@each_codec
def test_what_a_change_loses_is_part_of_the_next(codec):
    """The server stands still: what clients hold comes ever nearer to it."""
    link, target, distances = begun(codec), moved(weights(0), 1), []
    for number in range(12):
        link = link.advance(target, {}, torch.Generator().manual_seed(number))
        lost = [(link.held[name] - target[name]).square().sum() for name in target]
        distances.append(float(sum(lost)) ** 0.5)
    assert distances[-1] < 0.3 * distances[0] or distances[0] < 1e-3


def test_only_payloads_worth_sending_are_kept():
    params, link = weights(0), begun(Compressed())
    for number in range(1, 9):
        params = moved(params, number)
        link = link.advance(params, {}, NOTHING)
    assert sum(map(len, link.payloads.values())) < size_whole(params)
    assert max(link.payloads) == 8
    assert link.deliver((5,))[2] == size_whole(params)  # it missed more than is kept


def test_a_codec_that_would_run_away_is_refused():
    with pytest.raises(ValueError, match=r"codec: got .*Ternary"):
        Changes(Compressed(write=Ternary()))


# In whole runs.

PLAN = Plan(4, 2, LocalConfig(batch_size=8, lr=0.05), seed=3, workers=2)
SIGN = Changes(CODECS["top 10% sign"])


def trained(model, clients, changes, strategy=None, plan=PLAN, **options):
    strategy = strategy or strategies.rowwise()
    return run(model, clients, strategy, plan, downlink=changes, **options)


def test_exact_changes_train_like_whole_weights(small_model, clients):
    one, other = small_model(), small_model()
    dense = trained(one, clients, None)
    changes = trained(other, clients, Changes(Compressed(), known_start=True))
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert changes[0].bytes_down == 0 < dense[0].bytes_down  # nothing has changed yet


def test_it_survives_a_resume(small_model, clients, bits, tmp_path):
    whole_run, stopped, resumed = small_model(), small_model(), small_model()
    history = trained(whole_run, clients, SIGN)
    trained(stopped, clients, SIGN, plan=replace(PLAN, rounds=2), checkpoint=tmp_path)
    later = trained(resumed, clients, SIGN, checkpoint=tmp_path)
    assert bits(resumed.state_dict()) == bits(whole_run.state_dict())
    assert [r.bytes_down for r in later] == [r.bytes_down for r in history]


def test_another_downlink_is_another_run(small_model, clients, tmp_path):
    trained(small_model(), clients, SIGN, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="holds another run: downlink is"):
        trained(small_model(), clients, None, checkpoint=tmp_path)


@each_codec
@pytest.mark.parametrize("make", [strategies.scaffold, strategies.fedadam, strategies.median])
def test_what_a_strategy_sends_beside_the_weights_goes_the_same_way(
    small_model, clients, make, codec
):
    history = trained(small_model(), clients, Changes(codec), make())
    assert not any(record.left_out for record in history)


def test_whole_weights_up_and_changes_down_do_not_go_together(small_model, clients):
    with pytest.raises(ValueError, match=r"downlink: .*whole weights forget what the server"):
        trained(small_model(), clients, SIGN, strategies.fedavg(sends="weights"))


def test_the_model_after_a_round_is_what_clients_then_train_from(small_model, clients, bits):
    seen = []

    class Watched(type(strategies.fedavg())):
        def begin(self, turn):
            seen.append(bits({n: t for n, t in turn.weights.items() if n.startswith("recurrent")}))
            return super().begin(turn)

    model, after = small_model(), []
    plan = replace(PLAN, workers=1)
    strategy = Watched(strategies.fedavg().combine)
    for _ in rounds(model, clients, strategy, plan, downlink=SIGN):
        after.append(bits({n: t for n, t in model.state_dict().items() if "recurrent" in n}))
    assert seen[2::2] == after[:-1]  # two clients a round


def test_who_did_not_answer_is_sent_the_weights_whole(small_model, clients):
    plan = replace(PLAN, rounds=6, clients_per_round=None, dropout_rate=0.4)
    history = trained(small_model(), clients, SIGN, plan=plan)
    whole, n = history[0].bytes_down / len(clients), len(clients)
    for before, record in itertools.pairwise(history):
        lost = len(before.left_out)
        assert lost * whole <= record.bytes_down < (lost + 0.5 * (n - lost)) * whole
    assert {len(record.left_out) for record in history} > {0}


def test_each_round_draws_anew(small_model, clients):
    codec = Listening()
    trained(small_model(), clients, Changes(codec))
    assert len(set(codec.seeds)) == len(codec.seeds) == 4
