"""A clip that follows the changes, in rounds: by hand, what it costs, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab_helpers import LocalConfig, Plan, rounds, run, state, strategies
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.strategy import Add, Mean, ServerState
from fedlab_helpers.privacy.adaptive import split_noise
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.strategies.dp_fedavg import AdaptivePrivate

PLAN = Plan(3, 3, LocalConfig(1, 4, 0.1, "sgd", max_grad_norm=None), 5, 1, sampling="poisson")
BASE = {"w": torch.zeros(2)}


def sent(*values):
    return Update(0, {"w": torch.tensor(values)})


def by_hand(strategy, updates):
    server = replace(strategy.init(BASE, 4), round=2)
    return strategy.aggregate(server, iter(updates))


def test_a_round_by_hand():
    """Lengths 10 and 1, clip 5: one of four expected is within, one is not, and two are missing."""
    mean = PrivateMean(5.0, 0.0, clients=4, cohort=4, sampling="fixed")
    strategy = AdaptivePrivate(mean, Add())
    moved = by_hand(strategy, [sent(6.0, 8.0), sent(0.0, 1.0)])
    assert moved.params["w"].tolist() == [0.75, 1.25]
    assert moved.round == 3
    assert strategy.told(moved)["clip"] == pytest.approx(5.0)  # half of those who came
    moved = by_hand(strategy, [sent(0.0, 1.0)] * 4)
    assert strategy.told(moved) == {
        "epsilon": math.inf,
        "clip": pytest.approx(5 * math.exp(-0.2 / 2)),
    }
    assert strategy.told(by_hand(strategy, []))["clip"] == pytest.approx(5.0)


def test_the_clip_of_a_round_is_the_one_that_the_round_before_left():
    mean = PrivateMean(5.0, 0.0, clients=4, cohort=1, sampling="fixed")
    strategy = AdaptivePrivate(mean, Add())
    after = strategy.aggregate(strategy.init(BASE, 4), iter([sent(0.0, 1.0)]))
    clip = strategy.told(after)["clip"]
    assert clip < 5
    twice = strategy.aggregate(after, iter([sent(300.0, 400.0)]))
    moved = twice.params["w"] - after.params["w"]
    assert float(moved.norm()) == pytest.approx(clip, rel=1e-5)


def test_bits_and_changes_share_the_noise(monkeypatch):
    """The changes get more noise, the count its own."""
    asked = []
    monkeypatch.setattr(
        "fedlab_helpers.strategies.dp_fedavg.PrivateMean.__call__",
        lambda self, base, updates: asked.append(self) or {n: t * 0 for n, t in base.items()},
    )
    mean = PrivateMean(5.0, 1.0, clients=40, cohort=20, sampling="poisson", number=1)
    strategy = AdaptivePrivate(mean, Add())
    ends = [by_hand(strategy, []) for _ in range(2_000)]
    following = [float(end.memory["clip"]["clip"]) for end in ends]
    assert asked[0].noise_multiplier == split_noise(1.0, 0.05 * 20)
    moved = torch.tensor(following).log() - math.log(5)
    assert float(moved.std()) == pytest.approx(0.2 * 0.05, rel=0.1)
    assert strategy.told(strategy.init(BASE))["epsilon"] == mean.told()["epsilon"]
    few = replace(strategy, combine=replace(mean, cohort=2))
    by_hand(few, [])
    assert asked[-1].noise_multiplier == split_noise(1.0, 1.0)  # the count's is at least that


def test_it_finds_the_middle_of_the_lengths(small_model, clients):
    """From a clip far too large, without noise."""
    strategy = strategies.private_adaptive(10.0, 0.0, lr=1.0, beta=0.0)
    plan = replace(PLAN, rounds=40, clients_per_round=None, sampling="fixed")
    model = small_model()
    history = run(model, clients, replace(strategy, rate=0.5), plan)
    clips = [record.told["clip"] for record in history]
    assert clips[0] == pytest.approx(10 * math.exp(-0.25))
    assert clips[-1] < 1
    assert max(clips[-8:]) / min(clips[-8:]) < 1.5


def test_a_run_goes_on_with_its_clip(small_model, clients, bits, tmp_path):
    strategy, ends = strategies.private_adaptive(1.0, 0.05, repeatable=True), []
    strategy = replace(strategy, share=0.5)
    for counts, folder in (((3,), None), ((1, 3), tmp_path)):
        for count in counts:
            model = small_model()
            history = run(model, clients, strategy, replace(PLAN, rounds=count), checkpoint=folder)
        ends.append((bits(state.of_model(model)), [record.told for record in history]))
    assert ends[0] == ends[1]


def test_what_cannot_be_is_refused(small_model, clients):
    few = strategies.private_adaptive(1.0, 1.0)
    with pytest.raises(ValueError, match="strategy: got 'AdaptivePrivate', expected one that aggr"):
        rounds(small_model(), clients, few, PLAN, secure=SecureSum(32))
    with pytest.raises(ValueError, match=r"combine: got Mean.*expected a PrivateMean"):
        AdaptivePrivate(Mean())
    with pytest.raises(ValueError, match=r"target_quantile: got 1\.5"):
        AdaptivePrivate(PrivateMean(1.0, 0.0), target_quantile=1.5)


def test_the_servers_state_has_a_clip_at_once():
    server = strategies.private_adaptive(0.5).init(BASE)
    assert isinstance(server, ServerState)
    assert server.memory["clip"]["clip"] == 0.5
