"""Server optimisers, a few steps by hand, and FedAvg as a special case."""

import math

import pytest
import torch

from fedlab_helpers import strategies
from fedlab_helpers.core.strategy import ServerState
from fedlab_helpers.strategies.server_steps import Adaptive, Momentum


def walk(step, *changes: float) -> list[float]:
    """Return the weight after each of these changes, from 10."""
    server, seen = ServerState({"w": torch.tensor([10.0], dtype=torch.float64)}), []
    for change in changes:
        server = step(server, {"w": torch.tensor([change], dtype=torch.float64)})
        seen.append(float(server.params["w"]))
    return seen


def test_momentum_by_hand():
    """m: 4; 0.5·4 - 2 = 0; 0.5·0 + 1 = 1. Each times 2."""
    assert walk(Momentum(lr=2, beta=0.5), 4, -2, 1) == [18, 18, 20]


def test_adagrad_by_hand():
    """β1 = 0, τ = 1: v is 1 + 9 = 10, then 10 + 16 = 26."""
    first = 10 + 3 / (math.sqrt(10) + 1)
    second = first + 4 / (math.sqrt(26) + 1)
    assert walk(Adaptive("adagrad", 1.0, beta1=0, tau=1), 3, 4) == pytest.approx([first, second])


def test_adam_by_hand():
    """β1 = β2 = 1/2, τ = 1: m is 2, then 2; v is (1 + 16)/2 = 8.5, then (8.5 + 4)/2 = 6.25."""
    first = 10 + 0.1 * 2 / (math.sqrt(8.5) + 1)
    second = first + 0.1 * 2 / (2.5 + 1)
    step = Adaptive("adam", 0.1, beta1=0.5, beta2=0.5, tau=1)
    assert walk(step, 4, 2) == pytest.approx([first, second])


def test_yogi_by_hand():
    """v: 1 - (1/2)·16·sign(1 - 16) = 9, then 9 - (1/2)·4·sign(9 - 4) = 7."""
    first = 10 + 4 / (3 + 1)
    second = first + 2 / (math.sqrt(7) + 1)
    step = Adaptive("yogi", 1.0, beta1=0, beta2=0.5, tau=1)
    assert walk(step, 4, 2) == pytest.approx([first, second])


def test_fedadagrad_has_no_momentum():
    assert strategies.fedadagrad().step.beta1 == 0
    assert strategies.fedadam().step.beta1 == strategies.fedyogi().step.beta1 == 0.9


@pytest.mark.parametrize("make", [strategies.fedadagrad, strategies.fedadam, strategies.fedyogi])
def test_adaptive_servers_take_steps_of_one_size_whatever_the_scale(make):
    """A weight whose changes are a hundred times as large does not move a hundred times as far."""
    server = make(0.1, tau=1e-6).init({"w": torch.zeros(2)})
    for _ in range(5):
        server = make(0.1, tau=1e-6).step(server, {"w": torch.tensor([0.01, 1.0])})
    small, large = server.params["w"].tolist()
    assert small == pytest.approx(large, rel=0.01)


@pytest.mark.parametrize("step", [Momentum(), Adaptive("adam", 0.01)])
def test_counters_follow_the_mean_and_keep_their_dtype(step):
    server = ServerState({"n": torch.tensor(5), "w": torch.zeros(1)})
    for _ in range(2):
        server = step(server, {"n": torch.tensor(2), "w": torch.ones(1)})
    assert server.params["n"].dtype is torch.int64
    assert int(server.params["n"]) == 9
