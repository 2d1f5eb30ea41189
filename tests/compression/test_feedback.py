"""Error feedback: what is lost is kept and sent later, whoever sits out, and survives a resume."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Listening

from fedlab_helpers import compression as comp
from fedlab_helpers import strategies
from fedlab_helpers.compression import Compressed, Quantized, RandomK, Sign, TopK, WithFeedback, dgc
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.strategy import Mean, least_cohort
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.strategies.asynchronous import buffered_rounds
from fedlab_helpers.strategies.clusters import ifca_rounds
from fedlab_helpers.strategies.personal import APFL, Ditto, FedRep, keep_private

LIKE = {"w": torch.zeros(4), "table": torch.zeros(5, 2)}


def an_update(w, table=((0.0, 0.0), (0.0, 0.0))) -> Update:
    delta = {"w": torch.tensor(w), "table": torch.tensor(table)}
    return Update(0, delta, {"table": torch.tensor([1, 3])}, 6, 1, (0.5,))


def arriving(codec, updates, kept=None):
    """Return what arrives of each update, whole, and what is kept at the end."""
    kept, arrived = kept or {}, []
    for update in updates:
        payload, kept = codec.pack(update, kept, LIKE)
        arrived.append(rows.make_whole(wire.unpack(payload, codec, 0), LIKE).delta)
    return arrived, kept


def test_top_one_with_feedback_by_hand():
    codec = WithFeedback(Compressed(TopK(1 / 8)))
    arrived, kept = arriving(codec, [an_update([3.0, 2.0, 0.0, -1.0])] * 3)
    assert [came["w"].tolist() for came in arrived] == [[3, 0, 0, 0], [0, 4, 0, 0], [6, 0, 0, 0]]
    assert kept["residual/delta.w"].tolist() == [0, 2, 0, -3]


FEEDBACK = {
    "topk": WithFeedback(Compressed(TopK(0.2))),
    "topk and sign": WithFeedback(Compressed(TopK(0.2), Sign(), squeeze=3)),
    "random": WithFeedback(Compressed(RandomK(0.3, scaled=False), comp.Float16())),
    "sign": WithFeedback(Compressed(write=Sign())),
    "4 bits": WithFeedback(Compressed(write=Quantized(4, stochastic=False))),
    "low rank": WithFeedback(Compressed(comp.LowRank(1))),
    "low rank in signs": WithFeedback(Compressed(comp.LowRank(1), Sign())),
}
each_feedback = pytest.mark.parametrize("codec", FEEDBACK.values(), ids=FEEDBACK)


@each_feedback
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), turns=st.integers(1, 4))
def test_what_arrived_and_what_is_kept_are_all_there_was(codec, seed, turns):
    generator = torch.Generator().manual_seed(seed)
    sizes = (4,), (2, 2)
    updates = [
        an_update(*(torch.randn(size, generator=generator).tolist() for size in sizes))
        for _ in range(turns)
    ]
    arrived, kept = arriving(codec, updates)
    for name, sent in (("w", slice(None)), ("table", [1, 3])):
        total = sum(update.delta[name] for update in updates)
        came = sum(each[name] for each in arrived)
        torch.testing.assert_close(came[sent] + kept[f"residual/delta.{name}"], total)
    assert not came[[0, 2, 4]].any()  # rows that the client does not have
    assert kept["rows.table"].tolist() == [1, 3]


@each_feedback
def test_once_nothing_new_comes_what_is_kept_drains_away(codec):
    generator = torch.Generator().manual_seed(0)
    like = {"w": torch.zeros(40, 30), "b": torch.zeros(50)}
    change = {name: torch.randn(t.shape, generator=generator) for name, t in like.items()}
    still = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
    kept, lengths = {}, []
    for turn in range(25):
        update = Update(0, still if turn else change, {}, 6, 1, (0.5,))
        _, kept = codec.pack(update, kept, like, generator)
        lengths.append(state.norm({n: t for n, t in kept.items() if n.startswith("residual")}))
    assert lengths[-1] < 0.75 * state.norm(change)
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(lengths))


def test_rows_are_divided_by_all_who_have_the_word(small_model):
    """Two clients, the same two rows, each sending one value a round: nothing is counted twice."""
    codec, base = WithFeedback(Compressed(TopK(1 / 4))), {"table": torch.zeros(4, 2)}
    change = torch.tensor([[1.0, 0.9], [0.8, 0.7]])
    for strategy in (strategies.fedavg(), strategies.rowwise()):
        server, kept = strategy.init(base), [{}, {}]
        for _ in range(40):
            arrived = []
            for client in (0, 1):
                touched = {"table": torch.tensor([1, 3])}
                update = Update(client, {"table": change}, touched, 5, 1, (0.5,))
                payload, kept[client] = codec.pack(update, kept[client], base)
                arrived.append(wire.unpack(payload, codec, client))
            server = strategy.aggregate(server, arrived)
        late = sum(k["residual/delta.table"] for k in kept) / 2
        torch.testing.assert_close(server.params["table"][[1, 3]] + late, 40 * change)


def test_momentum_by_hand():
    codec = WithFeedback(Compressed(TopK(1 / 8)), momentum=0.5)
    arrived, kept = arriving(codec, [an_update([4.0, 3.0, 0.0, 0.0])] * 2)
    # Turn 1: u = v = (4, 3): the 4 goes, and is forgotten in both.
    # Turn 2: u = (0, 1.5) + (4, 3) = (4, 4.5), v = (0, 3) + u = (4, 7.5): the 7.5 goes.
    assert [came["w"].tolist()[:2] for came in arrived] == [[4, 0], [0, 7.5]]
    assert kept["residual/delta.w"].tolist() == [4, 0, 0, 0]
    assert kept["momentum/delta.w"].tolist() == [4, 0, 0, 0]


def test_a_long_update_is_scaled_down_before_it_is_kept():
    codec = WithFeedback(Compressed(TopK(1 / 8)), max_norm=1.0)
    arrived, kept = arriving(codec, [an_update([3.0, 4.0, 0.0, 0.0])])
    assert arrived[0]["w"].tolist() == pytest.approx([0, 0.8, 0, 0])
    assert kept["residual/delta.w"].tolist() == pytest.approx([0.6, 0, 0, 0])


def test_the_first_turns_send_more():
    codec = WithFeedback(Compressed(TopK(1 / 8)), warmup=(3 / 8, 2 / 8))
    arrived, _ = arriving(codec, [an_update([4.0, 3.0, 2.0, 1.0])] * 4)
    assert [int((came["w"] != 0).sum()) for came in arrived] == [3, 2, 1, 1]


def test_dgc_warms_up_to_its_share():
    assert dgc(Compressed(TopK(0.001))).warmup == (0.25, 0.0625, 0.015625, 0.00390625)
    assert dgc(Compressed(TopK(0.05))).warmup == (0.25, 0.0625)
    assert dgc(Compressed(TopK(0.05))).momentum == 0.9


def test_a_client_whose_reviews_changed_is_told():
    codec = WithFeedback(Compressed(TopK(0.2)))
    _, kept = arriving(codec, [an_update([1.0, 0.0, 0.0, 0.0])])
    other = replace(an_update([1.0, 0.0, 0.0, 0.0]), touched_rows={"table": torch.tensor([0, 3])})
    whole = rows.make_whole(other, LIKE)
    for update in (other, whole):
        with pytest.raises(ValueError, match="what the client remembers is of other rows"):
            codec.pack(update, kept, LIKE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WithFeedback(Compressed(RandomK(0.1))), r"expected RandomK\(scaled=False\)"),
        (lambda: WithFeedback(Compressed(comp.CountSketch(0.5))), "may lose more than there was"),
        (lambda: WithFeedback(Compressed(write=comp.Ternary())), "may lose more than there was"),
        (lambda: WithFeedback(Compressed(write=Quantized(4))), "may lose more than there was"),
        (lambda: WithFeedback(WithFeedback(Compressed())), "without feedback of its own"),
        (lambda: WithFeedback(0.1), "codec: got 0.1, expected a Compressed one"),
        (lambda: WithFeedback(Compressed(), momentum=1.0), "momentum: got 1.0"),
        (lambda: WithFeedback(Compressed(), max_norm=0.0), "max_norm: got 0.0"),
        (lambda: WithFeedback(Compressed(), momentum=0.5), "expected TopK where there is momentum"),
        (lambda: WithFeedback(Compressed(), warmup=(0.1,)), "expected TopK where there is"),
        (lambda: WithFeedback(Compressed(TopK(0.1)), warmup=(2.0,)), "share: got 2.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In whole runs.

PLAN = federated.Plan(4, 2, LocalConfig(batch_size=8, lr=0.05), seed=3, workers=2)
STC = WithFeedback(Compressed(TopK(0.05), Sign(), squeeze=3), momentum=0.5)


def trained(model, clients, codec, strategy=None, plan=PLAN, **options):
    states = options.pop("client_states", {})
    strategy = strategy or strategies.fedavg()
    history = federated.run(
        model, clients, strategy, plan, codec=codec, client_states=states, **options
    )
    return history, states


def test_feedback_over_a_lossless_codec_changes_no_bit(small_model, clients, bits):
    one, other = small_model(), small_model()
    trained(one, clients, Compressed())
    _, states = trained(other, clients, WithFeedback(Compressed()))
    assert bits(one.state_dict()) == bits(other.state_dict())
    plain = small_model()
    trained(plain, clients, wire.touched_rows())
    assert bits(one.state_dict()) == bits(plain.state_dict())
    assert all("feedback" in kept for kept in states.values())


def test_who_sits_out_keeps_what_it_has(small_model, clients, bits):
    states, before, sat_out = {}, {}, 0
    options = {"codec": STC, "client_states": states}
    for record in federated.rounds(small_model(), clients, strategies.fedavg(), PLAN, **options):
        now = {client: bits(kept) for client, kept in states.items()}
        for client in before:
            asked = client in record.cohort
            sat_out += not asked
            assert (now[client] != before[client]) == asked
        before = now
    assert sat_out


def test_what_is_kept_survives_a_resume(small_model, clients, bits, tmp_path):
    whole, stopped = small_model(), small_model()
    history, states = trained(whole, clients, STC)
    trained(stopped, clients, STC, plan=replace(PLAN, rounds=2), checkpoint=tmp_path)
    resumed = small_model()
    later, kept = trained(resumed, clients, STC, checkpoint=tmp_path)
    asked = list(itertools.chain.from_iterable(record.cohort for record in later))
    for client, owned in kept.items():
        assert int(owned["feedback"]["turns"][0]) == asked.count(client)
    assert bits(resumed.state_dict()) == bits(whole.state_dict())
    assert bits(kept) == bits(states)
    assert [r.bytes_up for r in later] == [r.bytes_up for r in history]


def test_workers_change_no_bit(small_model, clients, bits):
    codec = Compressed(RandomK(0.2), Quantized(2))  # draws on the client
    ends = []
    for workers in (1, 2, 4):
        model = small_model()
        trained(model, clients, codec, plan=replace(PLAN, workers=workers))
        ends.append(bits(model.state_dict()))
    assert ends[0] == ends[1] == ends[2]


def test_clients_and_rounds_draw_independently(small_model, clients):
    """Else the errors of unbiased codecs would not cancel over them."""
    codec, again = Listening(), Listening()
    for each in (codec, again):
        trained(small_model(), clients, each, plan=replace(PLAN, workers=1))
    assert len(set(codec.seeds)) == len(codec.seeds) == 4 * 2
    assert codec.seeds == again.seeds


def test_whole_weights_are_not_sent_in_part(small_model, clients):
    whole = strategies.fedavg(sends="weights")
    for codec in (Compressed(TopK(1.0)), Compressed(write=comp.Sign()), WithFeedback(Compressed())):
        assert codec.changes_only
        with pytest.raises(ValueError, match=r"codec: .* expected one that makes sense of whole"):
            trained(small_model(), clients, codec, whole)
    trained(small_model(), clients, Compressed(write=comp.Float16()), whole)


def test_buffers_are_not_fed_back():
    """They travel beside the change, exactly, each time as they are."""
    codec = WithFeedback(Compressed(TopK(1 / 8)))
    update = replace(an_update([3.0, 2.0, 0.0, -1.0]), buffers={"mean": torch.tensor([1.0, 2.0])})
    payload, kept = codec.pack(update, {}, LIKE)
    assert wire.unpack(payload, codec, 0).buffers["mean"].tolist() == [1, 2]
    assert not any("buffers" in name for name in kept)


def test_where_clients_keep_nothing_feedback_is_refused(small_model, clients):
    def buffered(codec):
        more = {"speeds": [1.0] * 4, "concurrency": 2, "buffer": 2, "codec": codec}
        begun = small_model(), clients, strategies.uniform(), federated.Plan(1)
        return list(buffered_rounds(*begun, **more))

    with pytest.raises(ValueError, match="here clients keep nothing between their turns"):
        buffered(STC)
    assert buffered(STC.codec)[0].bytes_up > 0


def test_clusters_remember_for_each_model(small_model, clients):
    models = [small_model(), small_model(seed=1)]
    records = list(ifca_rounds(models, clients, strategies.fedavg(), PLAN, codec=STC))
    dense = list(ifca_rounds([small_model()], clients, strategies.fedavg(), PLAN))
    assert sum(r.bytes_up for r in records) < sum(r.bytes_up for r in dense) / 4
    assert not any(record.left_out for record in records)


# What a strategy remembers.

EXTRAS = {
    "8 bits": Compressed(write=Quantized(8)),
    "top 10%": Compressed(TopK(0.1)),
    "top 10%, with momentum": WithFeedback(Compressed(TopK(0.1)), momentum=0.9),
    "random": Compressed(RandomK(0.1)),
}


@pytest.mark.parametrize("codec", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize("make", [strategies.scaffold, lambda: strategies.feddyn(0.01)])
def test_server_and_clients_remember_the_same(small_model, clients, codec, make):
    """SCAFFOLD's c is the mean of all c_i, FedDyn's h that of all g_k, whatever was lost."""
    seen, strategy = [], make()

    class Watched(type(strategy)):
        def aggregate(self, server, updates):
            seen[:] = [super().aggregate(server, updates)]
            return seen[0]

    _, states = trained(small_model(), clients, codec, Watched(**vars(strategy)))
    (memory,) = seen[0].memory.values()
    for name, of_server in memory.items():
        of_clients = sum(kept["strategy"][name].double() for kept in states.values()) / 4
        torch.testing.assert_close(of_server.double(), of_clients, rtol=1e-4, atol=1e-6)


# The whole grid: each codec with three strategies, each strategy with three codecs.

GRID = {
    **FEEDBACK,
    "topk and sign, with momentum": STC,
    "topk, no feedback": Compressed(TopK(0.2)),
    "sketch": Compressed(comp.CountSketch(0.5)),
    "float16": Compressed(write=comp.Float16()),
    "bfloat16": Compressed(write=comp.Float16(brain=True)),
    "ternary": Compressed(write=comp.Ternary()),
    "2 bits": Compressed(write=Quantized(2)),
    "random, unbiased": Compressed(RandomK(0.3), Quantized(8)),
}
KEEPS_HEAD = {"shared": keep_private("head")}
EVERY = {name: (Recipe(strategy=name).new_strategy(), {}) for name in strategies.STRATEGIES}
EVERY |= {
    "fedper": (strategies.rowwise(), KEEPS_HEAD),
    "fedrep": (FedRep(Mean(per_row=True)), KEEPS_HEAD),
    "ditto": (Ditto(Mean()), {}),
    "apfl": (APFL(Mean()), {}),
}


PAIRS = [(name, codec) for name in ("fedavg", "rowwise", "scaffold") for codec in GRID]
FEW = ("topk and sign, with momentum", "low rank", "random, unbiased")
PAIRS += [(name, codec) for name in EVERY for codec in FEW if (name, codec) not in PAIRS]


@pytest.mark.parametrize(("name", "codec"), PAIRS)
def test_codecs_work_with_strategies(small_model, reviews, name, codec):
    (strategy, options), codec = EVERY[name], GRID[codec]
    size = max(2, least_cohort(strategy.combine))  # Krum needs a crowd
    clients = [reviews(6, seed) for seed in range(size)]
    rounds = 2 if isinstance(codec, WithFeedback) else 1
    epochs = 2 if isinstance(strategy, FedRep) else 1  # the first is the head's
    local = LocalConfig(epochs=epochs, lr=0.02)
    plan = replace(PLAN, rounds=rounds, clients_per_round=None, workers=1, local=local)
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history, _ = trained(model, clients, codec, strategy, plan, **options)
    assert not any(record.left_out for record in history)
    after = model.state_dict()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    # Of changes that are mostly zeros the median is zero, and rightly so.
    assert name == "median" or any(not torch.equal(before[n], after[n]) for n in after)
