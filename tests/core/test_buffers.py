"""What a model holds beside its weights is no weight: averaged, sent as it is, never stepped."""

import itertools
import math

import pytest
import torch
from torch import nn

from fedlab_helpers import Examples, LocalConfig, Plan, rounds, run, state, strategies
from fedlab_helpers.compression import Compressed, CountSketch, Quantized, Sign, TopK
from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import RefusedUpdate, Update
from fedlab_helpers.strategies.asynchronous import buffered_rounds
from fedlab_helpers.strategies.clusters import ifca_rounds


class Normed(nn.Module):
    """A linear layer behind a BatchNorm, with a mask and a counter of its own."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.register_buffer("mask", torch.tensor([True, True, False, True]))
        self.register_buffer("codes", torch.tensor([3, 1, 2], dtype=torch.int8))

    def forward(self, values):
        return self.head(self.norm(values) * self.mask)


def examples(n, seed):
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 4, generator=rng) * (1 + seed) + seed
    return Examples((values,), (values.sum(1) > 4 * seed).long())


CLIENTS = [examples(12 + 4 * (seed % 3), seed) for seed in range(7)]  # no batch of one
PLAN = Plan(6, local=LocalConfig(batch_size=4, lr=0.02), workers=2)


def require_sound(model):
    assert bool((model.norm.running_var > 0).all())
    assert torch.equal(model.mask, Normed().mask)
    assert torch.equal(model.codes, Normed().codes)
    assert all(map(math.isfinite, state.flatten(state.of_model(model)).tolist()))


def test_they_are_the_mean_by_examples():
    data, model = CLIENTS[:2], Normed()
    run(model, data, strategies.fedavg(), Plan(1, local=PLAN.local))
    one = run_of(data, 0)
    other = run_of(data, 1)
    n, m = map(len, data)
    expected = (n * one["norm.running_mean"] + m * other["norm.running_mean"]) / (n + m)
    torch.testing.assert_close(model.norm.running_mean, expected)


def run_of(data, client):
    """Return what one of the clients holds after its first round: asked alone, others kept out."""
    from fedlab_helpers.core.client import Clients
    from fedlab_helpers.core.messages import Received

    model = Normed()
    workers = Clients(model, data, strategies.fedavg(), Plan(1, local=PLAN.local))
    held, names = state.of_model(model), state.buffer_names(model)
    received = Received(
        {n: t for n, t in held.items() if n not in names}, {}, {n: held[n] for n in names}
    )
    (reply,) = workers.replies(1, [client], received, {})
    return wire.unpack(reply.payload, wire.touched_rows(), client).buffers


# They average row by row, or refuse buffers, which they do not protect.
NO_BUFFERS = {"rowwise", "private", "private_adaptive", "dp_sgd"}


@pytest.mark.parametrize("name", sorted(strategies.STRATEGIES.keys() - NO_BUFFERS))
def test_no_servers_step_moves_them(name):
    entry = strategies.STRATEGIES[name]
    strategy = entry.build(**({"lr": 0.02} if entry.knows_client_rate else {}))
    model = Normed()
    history = run(model, CLIENTS, strategy, PLAN, test=CLIENTS[0])
    require_sound(model)
    assert all(not record.left_out for record in history)
    assert all(math.isfinite(record.metrics["loss"]) for record in history)
    assert int(model.norm.num_batches_tracked) > 0


@pytest.mark.parametrize(
    "codec",
    [Compressed(write=Quantized(2)), Compressed(TopK(0.1), Sign()), Compressed(CountSketch(0.2))],
    ids=repr,
)
def test_no_codec_loses_any_of_them(codec):
    plain, compressed = Normed(), Normed()
    run(plain, CLIENTS, strategies.fedavg(), Plan(1, local=PLAN.local))
    run(compressed, CLIENTS, strategies.fedavg(), Plan(1, local=PLAN.local), codec=codec)
    for name in state.buffer_names(plain):
        assert torch.equal(plain.state_dict()[name], compressed.state_dict()[name])


def test_a_round_in_which_nobody_is_drawn_leaves_them(bits):
    model, empty = Normed(), 0

    def held():
        return bits({name: model.state_dict()[name] for name in state.buffer_names(model)})

    before = held()
    plan = Plan(8, 1, PLAN.local, seed=1, sampling="poisson")
    for record in rounds(model, CLIENTS, strategies.fedavg(), plan):
        assert (held() == before) == (not record.cohort)
        before, empty = held(), empty + (not record.cohort)
    assert 0 < empty < 8


def test_a_compressed_downlink_leaves_them_whole():
    model = Normed()
    changes = Changes(Compressed(TopK(0.2)), known_start=True)
    history = run(model, CLIENTS, strategies.fedavg(), PLAN, downlink=changes)
    require_sound(model)
    assert all(record.bytes_down > 0 for record in history)


def test_they_go_through_a_checkpoint(tmp_path, bits):
    whole, parted, end = Normed(), Normed(), Normed()
    run(whole, CLIENTS, strategies.fedavgm(), PLAN)
    first = rounds(parted, CLIENTS, strategies.fedavgm(), PLAN, checkpoint=tmp_path)
    list(itertools.islice(first, 2))
    first.close()
    run(end, CLIENTS, strategies.fedavgm(), PLAN, checkpoint=tmp_path)
    assert bits(state.of_model(end)) == bits(state.of_model(whole))


def test_asynchronous_rounds_and_clusters_keep_them_sound():
    model = Normed()
    options = {"speeds": [1.0, 2.0, 3.0, 1.5, 0.5, 1.0, 2.5], "concurrency": 3, "buffer": 2}
    list(buffered_rounds(model, CLIENTS, strategies.uniform(), PLAN, **options))
    require_sound(model)
    models = [Normed(), Normed()]
    nn.init.zeros_(models[1].head.weight)
    list(ifca_rounds(models, CLIENTS, strategies.fedavgm(), PLAN))
    for each in models:
        require_sound(each)


def test_buffers_that_do_not_fit_are_refused():
    update = Update(0, {"w": torch.zeros(2)}, {}, 3, 1, (0.1,), buffers={"var": torch.ones(2)})
    update.require_fit({"w": torch.zeros(2)}, {}, {"var": torch.ones(2)})
    for buffers in ({}, {"var": torch.ones(3)}, {"other": torch.ones(2)}):
        with pytest.raises(RefusedUpdate, match="buffers: '"):
            update.require_fit({"w": torch.zeros(2)}, {}, buffers)
