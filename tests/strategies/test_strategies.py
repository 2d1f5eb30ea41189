"""Strategies, with means of two or three numbers that are worked out by hand."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers.core import state
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.strategy import Add, LocalRun, Mean, ServerState, Strategy
from fedlab_helpers.core.training import Hooks, LocalConfig, train
from fedlab_helpers.strategies import fedavg, fedprox, rowwise, uniform

SERVER = ServerState({"w": torch.tensor([10.0, 20.0])}, round=4)


def sent(*values: float, examples: int = 1, client: int = 0) -> Update:
    return Update(client, {"w": torch.tensor(values)}, {}, examples, 1, (1.0,))


def row_sent(rows: list[int], values: list[float], examples: int) -> Update:
    """Return an update of a table of one column, of which it holds these rows."""
    delta = {"table": torch.tensor(values)[:, None]}
    return Update(0, delta, {"table": torch.tensor(rows, dtype=torch.int64)}, examples, 1, (1.0,))


def table(*values: float) -> ServerState:
    return ServerState({"table": torch.tensor(values)[:, None]})


def column(server: ServerState) -> list[float]:
    return server.params["table"][:, 0].tolist()


def test_fedavg_weights_changes_by_examples():
    server = fedavg().aggregate(SERVER, [sent(1, 0, examples=3), sent(5, 4, examples=1)])
    assert server.params["w"].tolist() == [10 + (3 * 1 + 5) / 4, 20 + 4 / 4]
    assert server.round == 5


def test_uniform_counts_each_client_once():
    server = uniform().aggregate(SERVER, [sent(1, 0, examples=3), sent(5, 4, examples=1)])
    assert server.params["w"].tolist() == [10 + 3, 20 + 2]


def test_whole_weights_replace_the_global_ones():
    strategy = fedavg(sends="weights")
    server = strategy.aggregate(SERVER, [sent(1, 0, examples=3), sent(5, 4, examples=1)])
    assert server.params["w"].tolist() == [2, 1]


def test_the_state_before_is_not_changed():
    before = copy.deepcopy(SERVER)
    fedavg().aggregate(SERVER, [sent(1, 1)])
    assert SERVER.params["w"].tolist() == before.params["w"].tolist()
    assert SERVER.round == 4


def test_init_starts_at_round_0_with_the_weights_given():
    params = {"w": torch.tensor([1.0])}
    server = rowwise().init(params)
    assert server.round == 0
    assert server.params["w"] is params["w"]


def test_rows_that_a_client_did_not_touch_count_as_zero_change_in_fedavg():
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1, 2], [8.0, 8.0], examples=3)]
    # Row 0: 1·4 / 4. Row 1: (1·4 + 3·8) / 4. Row 2: 3·8 / 4. Row 3: nobody.
    assert column(fedavg().aggregate(table(1, 1, 1, 1), updates)) == [2, 8, 7, 1]


def test_rowwise_divides_each_row_by_the_weight_of_those_who_touched_it():
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1, 2], [8.0, 8.0], examples=3)]
    # Row 0: 1·4 / 1. Row 1: (1·4 + 3·8) / 4. Row 2: 3·8 / 3. Row 3: nobody.
    assert column(rowwise().aggregate(table(1, 1, 1, 1), updates)) == [5, 8, 9, 1]


def test_rowwise_with_equal_counts_for_each_client():
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1], [8.0], examples=3)]
    strategy = Strategy(Mean("uniform", per_row=True))
    assert column(strategy.aggregate(table(0, 0, 0), updates)) == [4, 6, 0]


def test_whole_weights_with_touched_rows_keep_the_global_rows_of_the_others():
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1], [8.0], examples=3)]
    # Row 0: (1·4 + 3·100) / 4. Row 1: (1·4 + 3·8) / 4. Row 2 stays.
    server = fedavg(sends="weights").aggregate(table(100, 100, 100), updates)
    assert column(server) == [76, 7, 100]


def test_whole_weights_with_touched_rows_averaged_row_by_row():
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1], [8.0], examples=3)]
    strategy = Strategy(Mean(per_row=True), sends="weights")
    assert column(strategy.aggregate(table(100, 100, 100), updates)) == [4, 7, 100]


@pytest.mark.parametrize("whole_first", [True, False])
def test_an_update_sent_whole_counts_as_touching_every_row(whole_first):
    whole = Update(1, {"table": torch.tensor([[2.0], [2.0]])}, {}, 1, 1, (1.0,))
    updates = [whole, row_sent([0], [6.0], examples=1)]
    order = updates if whole_first else updates[::-1]
    assert column(rowwise().aggregate(table(0, 0), order)) == [4, 2]


def test_a_row_sent_without_change_dilutes_and_an_absent_one_does_not():
    zero, absent = row_sent([0, 1], [6.0, 0.0], 1), row_sent([0], [6.0], 1)
    other = row_sent([1], [8.0], 1)
    assert column(rowwise().aggregate(table(0, 0), [zero, other])) == [6, 4]
    assert column(rowwise().aggregate(table(0, 0), [absent, other])) == [6, 8]


def test_updates_are_taken_one_at_a_time():
    alive = []

    def stream():
        for value in range(3):
            alive.append(value)
            yield sent(value, value)
            assert alive[-1] == value, "the next was asked for before this one was used"

    assert fedavg().aggregate(SERVER, stream()).params["w"].tolist() == [11, 21]


def test_sums_are_in_float64_and_rounded_once():
    """In float32, 1 + 2**-24 is 1: sixteen small updates would be lost beside a large one."""
    updates = [sent(1.0, 0.0), *[sent(2.0**-24, 0.0)] * 16]
    server = fedavg().aggregate(ServerState({"w": torch.zeros(2)}), updates)
    exact = torch.tensor((1 + 16 * 2.0**-24) / 17, dtype=torch.float32)
    assert float(server.params["w"][0]) == float(exact)


@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.floats(-10, 10, width=32), st.floats(-10, 10, width=32)),
        min_size=1,
        max_size=6,
    )
)
def test_any_mean_lies_between_its_updates_and_is_the_textbooks(clients):
    updates = [sent(a, b, examples=n) for n, a, b in clients]
    zero = ServerState({"w": torch.zeros(2)})
    for strategy, weights in (
        (fedavg(), [n for n, _, _ in clients]),
        (uniform(), [1] * len(clients)),
    ):
        mean = strategy.aggregate(zero, updates).params["w"].tolist()
        for position in (0, 1):
            values = [client[1 + position] for client in clients]
            textbook = math.fsum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
            assert mean[position] == pytest.approx(textbook, rel=1e-6, abs=1e-6)
            assert min(values) - 1e-5 <= mean[position] <= max(values) + 1e-5


@pytest.mark.parametrize("sends", ["change", "weights"])
def test_a_counter_stays_a_counter(sends):
    """Integer buffers, like a batch norm's count of steps, keep their dtype."""
    server = ServerState({"n": torch.tensor(5)})
    updates = [Update(0, {"n": torch.tensor(n)}, {}, 1, 1, (1.0,)) for n in (2, 3)]
    mean = fedavg(sends).aggregate(server, updates).params["n"]
    assert mean.dtype is torch.int64
    assert int(mean) == {"change": 7, "weights": 2}[sends]


def test_no_weight_at_all_is_an_error():
    with pytest.raises(ValueError, match="weights sum to 0"):
        fedavg().aggregate(SERVER, [])


def test_strategies_are_values():
    assert fedavg() == Strategy(Mean()) == fedavg("change")
    assert fedavg() != fedavg("weights") != uniform() != rowwise()
    assert fedprox(0.1) == fedprox(0.1) != fedprox(0.2)
    assert fedprox(0.0) != fedavg()
    assert fedavg().begin(turn(nn.Linear(1, 1))) == Hooks()


def turn(model: nn.Module, kept=None, extra=None, config=None) -> LocalRun:
    return LocalRun(
        model, state.of_model(model), extra or {}, None, config or LocalConfig(), kept or {}
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mean("sizes"), r"weights: got 'sizes', expected 'examples' or 'uniform'"),
        (lambda: fedavg("deltas"), "sends: got 'deltas', expected 'change' or 'weights'"),
        (
            lambda: Strategy(Mean(), Add(0.5), "weights"),
            r"step: got Add\(lr=0.5\), expected Add",
        ),
        (lambda: Add(0), "lr: got 0, expected a finite number above 0"),
        (lambda: fedprox(-0.1), "mu: got -0.1, expected a finite number not below 0"),
        (lambda: fedprox(math.nan), "mu: got nan, expected a finite number not below 0"),
    ],
)
def test_errors_name_argument_value_and_what_is_accepted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fedprox_adds_mu_times_the_distance_to_the_gradient():
    """Of (mu/2)·‖w - w_global‖² the gradient is mu·(w - w_global): 0.5·(3 - 1) = 1, and 0.5·-2."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    hooks = fedprox(0.5).begin(turn(model))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, -1.0]]))
    loss = (model.weight * torch.tensor([[10.0, 20.0]])).sum()  # its own gradient is (10, 20)
    pulled = hooks.loss(model, loss)
    assert pulled.item() == pytest.approx(loss.item() + 0.5 / 2 * (2**2 + 2**2))
    pulled.backward()
    assert model.weight.grad.tolist() == [[11.0, 19.0]]
    assert hooks.gradients is None


def test_fedprox_holds_a_client_near_the_global_weights(reviews, small_model):
    data, distances = reviews(20), []
    for mu in (0.0, 1.0, 10.0):
        model = small_model()
        start = state.of_model(model)
        config = LocalConfig(10, 5, 0.05, "sgd", max_grad_norm=None)
        train(model, data, config, hooks=fedprox(mu).begin(turn(model)))
        distances.append(state.norm(state.subtract(state.of_model(model), start)))
    assert distances[0] > 1.1 * distances[1] > 1.5 * distances[2] > 0


def test_fedprox_lets_private_parameters_go_where_they_will():
    model = nn.Linear(1, 1)
    shared = {"weight": model.weight.detach().clone()}
    hooks = fedprox(1.0).begin(LocalRun(model, shared, {}, None, LocalConfig(), {}))
    with torch.no_grad():
        model.bias += 100
    assert hooks.loss(model, torch.tensor(0.0)).item() == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fedprox_without_pull_is_fedavg_bit_for_bit(clients, small_model, bits, optimizer):
    plan = Plan(3, local=LocalConfig(2, 4, 0.05, optimizer), seed=1)
    ends = []
    for strategy in (fedavg(), fedprox(0.0)):
        model = small_model(dropout=0.2)
        run(model, clients, strategy, plan)
        ends.append(bits(state.of_model(model)))
    assert ends[0] == ends[1]


def test_fedprox_pulls_in_the_round_loop(clients, small_model):
    plan = Plan(1, local=LocalConfig(5, 4, 0.05, "sgd"))
    moves = []
    for mu in (0.0, 10.0):
        model = small_model()
        start = state.of_model(model)
        run(model, clients, fedprox(mu), plan)
        moves.append(state.norm(state.subtract(state.of_model(model), start)))
    assert moves[1] < 0.8 * moves[0]
