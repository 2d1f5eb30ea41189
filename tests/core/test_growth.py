"""What a round costs grows with who takes part and the words they touch, and with nothing else."""

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.core import state, wire
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds, run
from fedlab_helpers.core.state import RunningMean
from fedlab_helpers.core.strategy import Add, Mean, ServerState, Strategy
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import fedavg, make, rowwise, uniform
from fedlab_helpers.strategies.asynchronous import buffered_rounds

LOCAL = LocalConfig(1, 4, 0.1, "sgd")
ROWS, WIDTH = 9, 3


# A mean that keeps the rows that came is one that keeps them all


class WholeMean:
    """The mean with a sum for every row, as `RunningMean` was first written."""

    def __init__(self, base, per_row):
        self.base, self.per_row, self.weight = base, per_row, 0.0
        self.sums = {n: torch.zeros_like(t, dtype=torch.float64) for n, t in base.items()}
        self.row_weight = {}

    def add(self, values, weight, rows):
        for name, tensor in values.items():
            if name in rows:
                if name not in self.row_weight:
                    total = self.sums[name]
                    self.row_weight[name] = total.new_full((len(total),), self.weight)
                self.sums[name].index_add_(0, rows[name], tensor.double(), alpha=weight)
                ones = torch.ones(len(rows[name]), dtype=torch.float64)
                self.row_weight[name].index_add_(0, rows[name], ones, alpha=weight)
                continue
            self.sums[name].add_(tensor, alpha=weight)
            if name in self.row_weight:
                self.row_weight[name] += weight
        self.weight += weight

    def result(self):
        return {name: self.mean(name).to(base.dtype) for name, base in self.base.items()}

    def mean(self, name):
        base, total = self.base[name], self.sums[name]
        if name not in self.row_weight:
            return total / self.weight
        seen = self.row_weight[name].view(-1, 1)
        if self.per_row:
            return torch.where(seen > 0, total / seen.clamp_min(1e-300), base.double())
        return (total + (self.weight - seen) * base.double()) / self.weight


@st.composite
def streams(draw):
    """Return updates as (values, weight, rows), some in rows and some whole, in any order."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    updates = []
    for _ in range(draw(st.integers(1, 6))):
        table = torch.randn(ROWS, WIDTH, generator=rng).to(kind)
        held = torch.tensor(sorted(draw(st.sets(st.integers(0, ROWS - 1)))), dtype=torch.int64)
        weight = draw(st.integers(1, 400) | st.floats(0.001, 9.0))
        values, rows = {"b": torch.randn(2, 1, generator=rng)}, {}
        if draw(st.booleans()) or draw(st.booleans()):
            values, rows = {"e": table[held], **values}, {"e": held}
        else:
            values = {"e": table, **values}
        updates.append((values, weight, rows))
    base = {"e": torch.randn(ROWS, WIDTH, generator=rng).to(kind), "b": torch.randn(2, 1)}
    return updates, base if draw(st.booleans()) else state.zeros_like(base)


@settings(max_examples=300)
@given(stream=streams(), per_row=st.booleans())
def test_a_mean_that_keeps_the_rows_that_came_is_the_mean_of_all_rows_bit_for_bit(
    bits, stream, per_row
):
    updates, base = stream
    few, whole = RunningMean(base, per_row), WholeMean(base, per_row)
    for update in updates:
        few.add(*update)
        whole.add(*update)
    assert bits(few.result()) == bits(whole.result())
    mean, rows = few.by_rows()
    assert bits(mean["b"]) == bits(whole.result()["b"])
    if all("e" in touched for _, _, touched in updates):
        came = torch.cat([touched["e"] for _, _, touched in updates]).unique()
        assert rows["e"].equal(came)
        assert bits(mean["e"]) == bits(whole.result()["e"][came])
    else:
        assert bits(base | {"e": mean["e"]}) == bits(base | {"e": whole.result()["e"]})


def test_sums_grow_with_the_rows_that_came():
    base = {"e": torch.zeros(1).expand(2_000_000, 64)}
    mean = RunningMean(base)
    for row in (5, 1_999_999, 5):
        mean.add({"e": torch.ones(1, 64)}, 2, {"e": torch.tensor([row])})
    assert len(mean.row_weight["e"]) == 2
    found, rows = mean.by_rows()
    assert rows["e"].tolist() == [5, 1_999_999]
    assert found["e"][:, 0].tolist() == [torch.tensor(2 / 3).item(), torch.tensor(1 / 3).item()]


# A step into the weights is a step to new ones


def updates_of(stream):
    return [
        Update(client, values, rows, examples=int(weight) + 1, losses=(1.0,))
        for client, (values, weight, rows) in enumerate(stream)
    ]


@settings(max_examples=100)
@given(
    stream=streams(),
    weights=st.sampled_from(["examples", "uniform"]),
    per_row=st.booleans(),
    lr=st.sampled_from([1.0, 0.3]),
)
def test_consuming_a_state_gives_what_aggregating_it_gives(bits, stream, weights, per_row, lr):
    updates, params = updates_of(stream[0]), stream[1]
    strategy = Strategy(Mean(weights, per_row), Add(lr))
    before = bits(params)
    pure = strategy.aggregate(ServerState(params, round=4), iter(updates))
    assert bits(params) == before, "who calls it keeps the old state"
    consumed = strategy.consume(ServerState(state.clone(params), round=4), iter(updates))
    assert bits(consumed.params) == bits(pure.params)
    assert consumed.round == pure.round == 5
    assert list(consumed.params) == list(pure.params)


def three_rows():
    table = torch.zeros(ROWS, WIDTH)
    rows = {"e": torch.tensor([0, 2, 5])}
    delta = {"e": torch.ones(3, WIDTH), "b": torch.ones(2)}
    return table, [Update(0, delta, rows, examples=1, losses=(1.0,))]


def test_only_the_rows_that_came_are_written_and_into_the_same_table():
    table, updates = three_rows()
    moved = fedavg().consume(ServerState({"e": table, "b": torch.zeros(2)}), updates)
    assert moved.params["e"] is table
    assert table[:, 0].tolist() == [1, 0, 1, 0, 0, 1, 0, 0, 0]
    assert moved.params["b"].tolist() == [1, 1]


@dataclass(frozen=True)
class LooksBack(Strategy):
    """A reader's strategy that compares the new weights with the old."""

    far: list = field(default_factory=list)

    def aggregate(self, server, updates):
        moved = super().aggregate(server, updates)
        self.far.append(state.norm(state.subtract(moved.params, server.params)))
        return moved


class Half:
    """A reader's step, likewise."""

    def __call__(self, server, change):
        moved = Add()(server, change)
        gone = state.subtract(moved.params, server.params)
        return replace(server, params=state.add(server.params, gone, 0.5))


@dataclass(frozen=True)
class Remembers(Strategy):
    """A reader's strategy that keeps the first weights, as they were."""

    def init(self, params, clients=1):
        return ServerState(params, clients=clients, memory={"first": params})


@pytest.mark.parametrize(
    ("strategy", "first"),
    [
        (LooksBack(), 1.0),
        (Strategy(step=Half()), 0.5),
        (Remembers(), 1.0),
        (fedavg("weights"), 1.0),
        (make("fedadam"), 0.0297),
    ],
)
def test_who_may_look_at_the_old_weights_finds_them(strategy, first):
    table, updates = three_rows()
    server = strategy.init({"e": table, "b": torch.zeros(2)})
    moved = strategy.consume(server, updates)
    assert not table.any()
    assert moved.params["e"][0, 0].item() == pytest.approx(first, rel=1e-2)
    if isinstance(strategy, LooksBack):
        assert strategy.far == [pytest.approx((3 * WIDTH + 2) ** 0.5)]


def ends(model, clients, strategy, monkeypatch, **options):
    """Return the weights of a run, and of one whose every step makes new weights."""
    plan = Plan(4, 3, LOCAL, seed=1)
    twice = []
    for step in (Strategy.consume, lambda strategy, *given: strategy.aggregate(*given)):
        monkeypatch.setattr(Strategy, "consume", step)
        trained, options["client_states"] = model(), {}
        history = run(trained, clients, strategy, plan, **options)
        told = [(r.bytes_down, r.bytes_up, r.client_losses, r.told) for r in history]
        twice.append((state.of_model(trained), told))
    return twice


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedavg", {}),
        ("fedavg", {"codec": wire.dense()}),
        ("fedavg", {"downlink": Changes(wire.touched_rows())}),
        ("fedavg", {"shared": lambda name: "head" not in name}),
        ("rowwise", {}),
        ("uniform", {}),
        ("fedprox", {}),
        ("fedavgm", {}),
        ("worst_group", {}),
        ("scaffold", {}),
    ],
)
def test_runs_end_where_they_ended(clients, small_model, bits, monkeypatch, name, options):
    one, other = ends(small_model, clients, make(name), monkeypatch, **options)
    assert bits(one[0]) == bits(other[0])
    assert one[1] == other[1]


def test_a_late_client_starts_from_the_weights_that_it_was_sent(clients, small_model, bits):
    """The server goes on writing into its table; so that of a dense run is the measure."""
    weights = []
    for codec in (wire.touched_rows(), wire.dense()):
        model, speeds = small_model(), (1.0, 0.3, 2.0, 0.7)
        options = {"speeds": speeds, "concurrency": 3, "buffer": 2, "codec": codec}
        records = list(buffered_rounds(model, clients, uniform(), Plan(6, local=LOCAL), **options))
        assert max(record.metrics["staleness"] for record in records) > 0
        weights.append(bits(state.of_model(model)))
    assert weights[0] == weights[1]


# Many clients


@dataclass(eq=False)
class Counting(Sequence):
    """Clients that are made when they are asked for, and counts which."""

    few: list
    size: int
    asked: list = field(default_factory=list)

    @property
    def objective(self):
        return self.few[0].objective

    def __len__(self):
        return self.size

    def __getitem__(self, client):
        if client >= self.size:
            raise IndexError(client)
        self.asked.append(client)
        return self.few[client % len(self.few)]


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_a_round_touches_its_cohort_only(clients, small_model, sampling):
    many = Counting(clients, 5_000)
    plan = Plan(3, 6, LOCAL, sampling=sampling)
    records = rounds(small_model(), many, fedavg(), plan, test=clients[0])
    assert len(many.asked) < 6, "one that there is, for its objective and to try the model"
    for record in records:
        assert {*many.asked[-len(record.cohort) :]} == {*record.cohort}
        many.asked.clear()


def test_clients_that_are_made_when_asked_give_the_run_of_a_list(clients, small_model, bits):
    made = []
    for dealt in (Counting(clients, 40), [clients[k % 4] for k in range(40)]):
        model = small_model()
        run(model, dealt, rowwise(), Plan(3, 5, LOCAL, seed=2))
        made.append(bits(state.of_model(model)))
    assert made[0] == made[1]


def test_a_run_over_many_clients_is_resumed(clients, small_model, bits, tmp_path):
    whole, end, plan = small_model(), small_model(), Plan(4, 5, LOCAL)
    run(whole, Counting(clients, 40), fedavg(), plan)
    first = rounds(small_model(), Counting(clients, 40), fedavg(), plan, checkpoint=tmp_path)
    list(itertools.islice(first, 2))
    first.close()
    assert len(run(end, Counting(clients, 40), fedavg(), plan, checkpoint=tmp_path)) == 4
    assert bits(state.of_model(end)) == bits(state.of_model(whole))


# Many words

MANY_WORDS = """
import re
from pathlib import Path
from toys import make_reviews
from fedlab_helpers import Plan, SentimentLSTM, rounds, strategies

def play(words):
    model = SentimentLSTM(words, 64, seed=0)
    before, clients = peak(), [make_reviews(9, seed) for seed in range(4)]
    for record in rounds(model, clients, strategies.fedavg(), Plan(3, workers=2)):
        assert not record.left_out
    return (peak() - before) / model.embedding.weight.nbytes

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

play(60)  # loads what is loaded once
print(play(200_000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
def test_beside_the_model_a_run_holds_its_table_once():
    """The server's own copy, and at the start one in which the model is tried; ten of them, when
    each round wrote, read, summed and added whole tables."""
    paths = os.pathsep.join(sys.path)
    told = subprocess.run(
        [sys.executable, "-c", MANY_WORDS],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        check=True,
        text=True,
    )
    assert float(told.stdout) < 1.5
