"""Strategies, with means of two or three numbers that are worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers.core import state
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, rounds, run
from fedlab_helpers.core.strategy import (
    Add,
    LocalRun,
    Mean,
    ServerState,
    Strategy,
    require_cohort,
)
from fedlab_helpers.core.training import Hooks, LocalConfig
from fedlab_helpers.strategies import (
    calibrated,
    fedatt,
    fedavg,
    feddyn,
    fedprox,
    qfedavg,
    rowwise,
    uniform,
    worst_group,
)
from fedlab_helpers.strategies.attacks import Hostile, choose
from fedlab_helpers.strategies.drift import FedDyn, Scaffold
from fedlab_helpers.strategies.fairness import QMean, TellsLoss, WorstGroup
from fedlab_helpers.strategies.means import Attentive, NormalizedMean, WeightedMean
from fedlab_helpers.strategies.personal import APFL, Ditto, FedRep, PerFedAvg
from fedlab_helpers.strategies.robust import Clipped, GeometricMedian, Krum, Median, TrimmedMean
from fedlab_helpers.strategies.server_steps import Adaptive, Momentum

SERVER = ServerState({"w": torch.tensor([10.0, 20.0])}, round=4)


def sent(*values: float, examples: int = 1, client: int = 0) -> Update:
    return Update(client, {"w": torch.tensor(values)}, {}, examples, 1, (1.0,))


def row_sent(rows: list[int], values: list[float], examples: int) -> Update:
    """Return an update of a table of one column, of which it holds these rows."""
    delta = {"table": torch.tensor(values)[:, None]}
    return Update(0, delta, {"table": torch.tensor(rows, dtype=torch.int64)}, examples, 1, (1.0,))


def table(*values: float) -> ServerState:
    return ServerState({"table": torch.tensor(values, dtype=torch.float32)[:, None]})


def column(server: ServerState) -> list[float]:
    return server.params["table"][:, 0].tolist()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (fedavg(), [10 + (3 * 1 + 5) / 4, 20 + 4 / 4]),
        (uniform(), [10 + 3, 20 + 2]),
        (fedavg(sends="weights"), [2, 1]),
    ],
)
def test_means_of_two_updates(strategy, expected):
    """Changes, or whole weights, (1, 0) of 3 examples and (5, 4) of one; what came in is left."""
    server = strategy.aggregate(SERVER, [sent(1, 0, examples=3), sent(5, 4, examples=1)])
    assert server.params["w"].tolist() == expected
    assert (server.round, SERVER.round, SERVER.params["w"].tolist()) == (5, 4, [10, 20])


@pytest.mark.parametrize(
    ("strategy", "before", "expected"),
    [
        # Row 0: 1·4 / 4. Row 1: (1·4 + 3·8) / 4. Row 2: 3·8 / 4. Row 3: nobody.
        (fedavg(), 1, [2, 8, 7, 1]),
        # Row 0: 1·4 / 1. Row 1: (1·4 + 3·8) / 4. Row 2: 3·8 / 3. Row 3: nobody.
        (rowwise(), 1, [5, 8, 9, 1]),
        (Strategy(Mean("uniform", per_row=True)), 0, [4, 6, 8, 0]),
        # Row 0: (1·4 + 3·100) / 4. Row 2: (100 + 3·8) / 4. Row 3 stays.
        (fedavg(sends="weights"), 100, [76, 7, 31, 100]),
        (Strategy(Mean(per_row=True), sends="weights"), 100, [4, 7, 8, 100]),
    ],
)
def test_means_of_touched_rows(strategy, before, expected):
    """Rows 0 and 1 of a client with one example, rows 1 and 2 of one with three."""
    updates = [row_sent([0, 1], [4.0, 4.0], examples=1), row_sent([1, 2], [8.0, 8.0], examples=3)]
    assert column(strategy.aggregate(table(*[before] * 4), updates)) == expected


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


def test_fedprox_lets_private_parameters_go_where_they_will():
    model = nn.Linear(1, 1)
    shared = {"weight": model.weight.detach().clone()}
    hooks = fedprox(1.0).begin(LocalRun(model, shared, {}, None, LocalConfig(), {}))
    with torch.no_grad():
        model.bias += 100
    assert hooks.loss(model, torch.tensor(0.0)).item() == 0


def test_fedprox_pulls_in_the_round_loop(clients, small_model):
    plan = Plan(1, local=LocalConfig(5, 4, 0.05, "sgd"))
    moves = []
    for mu in (0.0, 10.0):
        model = small_model()
        start = state.of_model(model)
        run(model, clients, fedprox(mu), plan)
        moves.append(state.norm(state.subtract(state.of_model(model), start)))
    assert moves[1] < 0.8 * moves[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mean("sizes"), r"weights: got 'sizes', expected 'examples' or 'uniform'"),
        (lambda: fedavg("deltas"), "sends: got 'deltas', expected 'change' or 'weights'"),
        (lambda: Strategy(Mean(), Add(0.5), "weights"), r"step: got Add\(lr=0.5\), expected Add"),
        (lambda: Add(0), "lr: got 0, expected a finite number above 0"),
        (lambda: fedprox(math.nan), "mu: got nan, expected a finite number not below 0"),
        (lambda: calibrated(math.inf), "tau: got inf, expected a finite number not below 0"),
        (lambda: feddyn(0), "alpha: got 0, expected a finite number above 0"),
        (lambda: fedatt(-1), "epsilon: got -1, expected a finite number above 0"),
        (lambda: WeightedMean("size"), "by: got 'size', expected 'inverse_loss' or 'norm'"),
        (lambda: Momentum(beta=1.0), r"beta: got 1.0, expected a number in \[0, 1\)"),
        (lambda: Momentum(lr=-1), "lr: got -1, expected a finite number above 0"),
        (lambda: Adaptive("sgd", 1.0), r"rule: got 'sgd', expected one of \['adagrad', 'adam'"),
        (lambda: Adaptive("adam", 0.1, tau=0), "tau: got 0"),
        (lambda: Adaptive("adam", 0.1, beta2=-0.1), "beta2: got -0.1"),
        (lambda: qfedavg(-1, 0.1), "q: got -1, expected a number from 0 to 20"),
        (lambda: qfedavg(1, 0), "lr: got 0, expected a finite number above 0"),
        (lambda: worst_group(math.inf), "rate: got inf, expected a finite number not below 0"),
        (lambda: WorstGroup(Mean()), r"combine: got Mean\(weights='examples'.*, expected Mean"),
        (lambda: FedDyn(Median()), r"combine: got Median\(\), expected a Mean"),
        (lambda: Scaffold(Clipped()), r"combine: got Clipped\(.*, expected a Mean"),
        (lambda: TrimmedMean(0.5), r"share: got 0.5, expected a number in \[0, 0.5\)"),
        (lambda: Krum(-1), "f: got -1, expected an integer of at least 0"),
        (lambda: Krum(1, 0), "keep: got 0, expected an integer of at least 1"),
        (lambda: GeometricMedian(0), "iterations: got 0"),
        (lambda: Clipped(0), "max_norm: got 0, expected a finite number above 0"),
        (lambda: Median()({}, []), r"updates: got \[\], expected at least one"),
        (
            lambda: require_cohort(Krum(2), 6),
            "cohort: got 6, expected at least 7 clients",
        ),
        (lambda: require_cohort(Krum(1, 5), 5), "cohort: got 5, expected at least 6 clients"),
        (lambda: require_cohort(Clipped(1, Krum(1)), 4), "cohort: got 4, expected at least 5"),
        (lambda: require_cohort(TrimmedMean(0.2), 4), "cohort: got 4, expected at least 5"),
        (lambda: Ditto(lam=-1), "lam: got -1, expected a number not below 0, or inf"),
        (lambda: APFL(alpha=1.5), "alpha: got 1.5, expected a number from 0 to 1"),
        (lambda: PerFedAvg(alpha=0), "alpha: got 0, expected a finite number above 0"),
        (lambda: FedRep(head_epochs=0), "head_epochs: got 0, expected an integer of at least 1"),
        (lambda: Hostile([1], "lie"), r"attack: got 'lie', expected one of \['sign', 'scale'"),
        (lambda: Hostile([1], "sign", 0), "strength: got 0, expected a finite number above 0"),
        (lambda: choose(5, 1.1, None), "share: got 1.1, expected a number from 0 to 1"),
    ],
)
def test_errors_name_argument_value_and_what_is_accepted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        *((make(sends="weights"), "strategy") for make in (Scaffold, FedDyn, WorstGroup)),
        *(
            (Strategy(combine, sends="weights"), "combine")
            for combine in (Clipped(), NormalizedMean(), Attentive(), WeightedMean("norm"))
        ),
        (TellsLoss(QMean(), sends="weights"), "combine"),
    ],
)
def test_what_is_made_for_changes_gets_no_whole_weights(strategy, name, small_model, clients):
    with pytest.raises(ValueError, match=f"{name}: got .*, expected one that makes sense of whole"):
        rounds(small_model(), clients, strategy, Plan(1))
