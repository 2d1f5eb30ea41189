"""Own parts in federated runs: by hand, identities, and nothing private on the wire."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import VOCABULARY

from fedlab_helpers.core import rounds, state, wire
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.core.rounds import Plan
from fedlab_helpers.core.strategy import LocalRun
from fedlab_helpers.core.training import Hooks, LocalConfig, predict, train
from fedlab_helpers.personal.fine_tuning import own_weights
from fedlab_helpers.strategies import fedavg, feddyn, fedprox, scaffold
from fedlab_helpers.strategies.personal import (
    APFL,
    OWN_SHARE,
    Ditto,
    FedRep,
    Mixture,
    PerFedAvg,
    keep_private,
    pull_towards,
)
from fedlab_helpers.tasks.objectives import NUMBERS
from fedlab_helpers.tasks.reviews.model import OwnWordsLSTM

LOCAL = LocalConfig(2, 4, 0.02)
PLAN = Plan(3, local=LOCAL, seed=5)
SIMPLE = LocalConfig(1, None, 0.1, "sgd", max_grad_norm=None)


def run(model, clients, strategy, plan=PLAN, **options):
    """Return the global weights and what clients keep."""
    states = options.setdefault("client_states", {})
    history = rounds.run(model, clients, strategy, plan, **options)
    assert not any(record.left_out for record in history)
    return state.of_model(model), states


def one_weight(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


# What is private is not sent


class Spy:
    """A codec that remembers the names of all tensors that clients send."""

    keeps_rows = True

    def __init__(self):
        self.names, self.inner = set(), wire.touched_rows()

    def encode(self, tensors, rng=None):
        self.names |= tensors.keys()
        return self.inner.encode(tensors)

    def decode(self, payload):
        return self.inner.decode(payload)


@pytest.mark.parametrize("strategy", [Ditto(lam=1.0), APFL(alpha=0.5)], ids=["Ditto", "APFL"])
def test_own_models_are_kept_and_what_is_sent_is_what_fedavg_sends(
    strategy, clients, small_model, bits
):
    """The global weights do not depend on what a client does for itself beside them."""
    spies = Spy(), Spy()
    personal, kept = run(small_model(dropout=0.3), clients, strategy, codec=spies[0])
    plain, nothing = run(small_model(dropout=0.3), clients, fedavg(), codec=spies[1])
    assert bits(personal) == bits(plain)
    assert spies[0].names == spies[1].names
    assert {client: set(owned) for client, owned in kept.items()} == {
        client: {"strategy"} for client in range(4)
    }
    assert nothing == {}


# Private parts beside own models, work cut short, frozen parts

OWN = [Ditto(lam=1.0), APFL(alpha=0.5)]


@pytest.mark.parametrize("strategy", OWN, ids=["Ditto", "APFL"])
def test_own_models_go_with_a_private_head(strategy, clients, small_model, bits):
    """What is sent is what FedPer sends; what is private is in the own model, too."""
    shared, spy = keep_private("head"), Spy()
    weights, kept = run(small_model(), clients, strategy, shared=shared, codec=spy)
    plain, fedper = run(small_model(), clients, fedavg(), shared=shared)
    assert bits(weights) == bits(plain)
    assert not any("head" in name for name in spy.names)
    for client, data in enumerate(clients):
        assert bits(kept[client]["private"]) == bits(fedper[client]["private"])
        assert {"head.weight", "head.bias"} < kept[client]["strategy"].keys()
        own = own_weights(weights, kept[client], data)
        theirs = own_weights(weights, fedper[client], data)
        assert not any(torch.equal(own[name], theirs[name]) for name in own)


def test_nothing_pulls_at_what_is_private(clients, small_model):
    """λ = ∞: what is shared is as it was received; the head is trained, and trains on."""
    heads = []
    for rounds_ in (1, 2):
        plan = replace(PLAN, rounds=rounds_)
        strategy, shared = Ditto(lam=float("inf")), keep_private("head")
        _, kept = run(
            small_model(), clients, strategy, plan, shared=shared, codec=wire.dense()
        )  # fmt: skip
        heads.append(kept[0]["strategy"]["head.bias"])
        if rounds_ == 1:
            received = state.of_model(small_model())
            same = {n: torch.equal(t, kept[0]["strategy"][n]) for n, t in received.items()}
            assert [name for name, equal in same.items() if not equal] == [
                "head.weight", "head.bias",
            ]  # fmt: skip
    assert not torch.equal(*heads)


@pytest.mark.parametrize(
    "strategy", [*OWN, PerFedAvg(alpha=0.1), FedRep()], ids=lambda s: type(s).__name__
)
def test_a_client_takes_no_more_steps_than_it_reports(strategy, clients, small_model, monkeypatch):
    """Four clients finish two steps each; their own models take two, too."""
    taken = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: taken.append(1) or step(self))
    plan = Plan(1, local=replace(SIMPLE, epochs=2, batch_size=4), pace=Pace((1.0,) * 4, 2.0))
    (record,) = rounds.rounds(small_model(), clients, strategy, plan)
    assert record.left_out == {}
    assert record.steps == 8
    assert len(taken) == (16 if strategy in OWN else 8)


@pytest.mark.parametrize(
    "strategy",
    [*OWN, FedRep(), PerFedAvg(alpha=0.1), scaffold(), feddyn(0.1), fedprox(0.1)],
    ids=lambda s: type(s).__name__,
)
def test_what_a_reader_froze_stays_as_it_is(strategy, clients, small_model):
    model = small_model()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    weights, kept = run(model, clients, strategy, replace(PLAN, rounds=2))
    assert torch.equal(weights["embedding.weight"], before)
    assert not torch.equal(weights["head.bias"], small_model().head.bias)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["embedding.weight"]
    if strategy in OWN:
        own = own_weights(weights, kept[0], clients[0])
        assert torch.allclose(own["embedding.weight"], before, atol=1e-6)


def test_own_models_do_not_depend_on_the_default_dtype(clients, small_model, bits):
    ends = []
    for dtype in (torch.float32, torch.float64):
        model = small_model()
        torch.set_default_dtype(dtype)
        try:
            weights, kept = run(model, clients, APFL(alpha=0.5), replace(PLAN, rounds=2))
            ends.append((bits(weights), bits(kept)))
        finally:
            torch.set_default_dtype(torch.float32)
    assert ends[0] == ends[1]


# FedRep


def test_fedrep_first_moves_the_head_only_and_then_all_else_only(clients, small_model):
    model = small_model()
    shared = {n: t for n, t in state.of_model(model).items() if not n.startswith("head")}
    config = replace(LOCAL, epochs=2)
    hooks = FedRep().begin(LocalRun(model, shared, {}, clients[0], config, {}))
    moved = []
    last = state.of_model(model)

    def note(model):
        nonlocal last
        now = state.of_model(model)
        moved.append({name for name in now if not torch.equal(now[name], last[name])})
        last = now

    train(model, clients[0], config, hooks=replace(hooks, after=note))
    heads, others = {"head.weight", "head.bias"}, set(shared)
    assert len(moved) == 6
    assert all(names == heads for names in moved[:3])  # 12 reviews, 4 a step
    assert all(names == others for names in moved[3:])


def test_fedrep_needs_an_epoch_for_each_part(clients, small_model):
    with pytest.raises(NoUpdateLeft, match="epochs: got 1, expected more than the 1 that"):
        run(
            small_model(),
            clients,
            FedRep(),
            Plan(1, local=LocalConfig(1, 4)),
            shared=keep_private("head"),
        )


# Per-FedAvg


def test_per_fedavg_takes_the_gradient_after_a_trial_step_and_applies_it_before():
    """Loss w², gradient 2w. From w = 1 the trial at 0.1 leads to 0.8, where the gradient is 1.6:
    the step of rate 0.5 ends at 1 - 0.5 · 1.6 = 0.2."""
    model = one_weight(1.0)
    config = LocalConfig(2, None, 0.5, "sgd", max_grad_norm=None)
    hooks = PerFedAvg(alpha=0.1).begin(LocalRun(model, {}, {}, [0], config, {}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model.weight.square().sum().backward()
        hooks.gradients(model)
        optimizer.step()
    assert model.weight.item() == pytest.approx(0.2)


def test_a_last_batch_without_partner_takes_a_usual_step(clients, small_model, bits):
    models = small_model(), small_model()
    run(models[0], clients, PerFedAvg(alpha=0.05), Plan(1, local=SIMPLE))
    run(models[1], clients, fedavg(), Plan(1, local=SIMPLE))
    assert bits(models[0].state_dict()) == bits(models[1].state_dict())


def test_work_that_is_cut_short_does_not_end_with_a_trial(clients, small_model, bits):
    """One of five steps before the deadline: without a partner, it is the step of FedAvg."""
    plan = Plan(1, local=replace(SIMPLE, batch_size=4), pace=Pace((1.0,), 1.0))
    looked_ahead, _ = run(small_model(), clients[2:3], PerFedAvg(alpha=5.0), plan)
    plain, _ = run(small_model(), clients[2:3], fedavg(), plan)
    assert bits(looked_ahead) == bits(plain)


# Ditto


@given(st.floats(0, 1e8), st.floats(1e-4, 10))
def test_the_proximal_step_never_overshoots(lam, lr):
    """The explicit gradient step would diverge once lr · lam > 2."""
    model = one_weight(4.0)
    pull_towards({"weight": torch.tensor([[1.0]])}, lam, lr)(model)
    assert 1.0 <= model.weight.item() <= 4.0
    assert model.weight.item() == pytest.approx((4 + lr * lam) / (1 + lr * lam), rel=1e-5)


def test_ditto_without_pull_is_local_training(clients, small_model, bits):
    """λ = 0: each client's own model is what it trains alone, round after round."""
    _, kept = run(small_model(dropout=0.3), clients, Ditto(lam=0.0), codec=wire.dense())
    for client, data in enumerate(clients):
        model = small_model(dropout=0.3)
        for number in range(1, PLAN.rounds + 1):
            seed = child_seed(child_seed(PLAN.seed, "local", number, client), "own")
            train(model, data, LOCAL, seed=seed)
        expected = model.state_dict() | {OWN_SHARE: torch.ones(())}
        assert bits(kept[client]["strategy"]) == bits(dict(sorted(expected.items())))


def test_ditto_tends_to_the_global_model_as_the_pull_grows(clients, small_model):
    """The distance to the weights that the last round began with shrinks to nothing."""
    start = small_model()
    run(start, clients, fedavg(), replace(PLAN, rounds=PLAN.rounds - 1))
    distances = []
    for lam in (0.0, 10.0, 1e3, 1e5, float("inf")):
        model = small_model()
        weights, kept = run(model, clients, Ditto(lam=lam))
        own = own_weights(weights, kept[1], clients[1])
        touched = state.subtract(own, own_weights(start.state_dict(), {}, clients[1]))
        rows = clients[1].tokens.unique()
        touched["embedding.weight"] = touched["embedding.weight"][rows]
        distances.append(state.norm(touched))
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.1
    assert distances[3] < 1e-3
    assert distances[-1] == 0


def test_rows_only_or_whole_tables_give_the_same_own_model(clients, small_model):
    owns = []
    for codec in (wire.touched_rows(), wire.dense()):
        weights, kept = run(small_model(), clients, Ditto(lam=1.0), codec=codec)
        owns.append(predict_with(small_model(), own_weights(weights, kept[2], clients[2]), clients))
    assert torch.allclose(*owns, atol=1e-6)


def predict_with(model, weights, clients):
    model.load_state_dict(weights)
    return predict(model, clients[2])


# APFL


def test_the_mixture_is_its_ends(small_model, clients):
    own, shared = small_model(seed=1), small_model(seed=2)
    expected = {1.0: predict(own, clients[0]), 0.0: predict(shared, clients[0])}
    for alpha, logits in expected.items():
        mixture = Mixture(small_model(seed=1), state.of_model(shared), alpha)
        assert torch.allclose(predict(mixture, clients[0]), logits, atol=1e-6)


def test_the_gradient_of_alpha_is_that_of_the_paper(small_model, clients):
    """Equation 5: the inner product of v - w with the gradient at the mixture."""
    own, shared = small_model(seed=1), state.of_model(small_model(seed=2))
    mixture = Mixture(own, shared, 0.3)
    batch = next(clients[0].batches(None))
    torch.nn.functional.cross_entropy(mixture(batch.tokens, batch.lengths), batch.labels).backward()
    mixed = small_model()
    mixed.load_state_dict({n: t.detach() for n, t in mixture.mixed().items()})
    torch.nn.functional.cross_entropy(mixed(batch.tokens, batch.lengths), batch.labels).backward()
    product = sum(
        ((own.state_dict()[name] - shared[name]) * parameter.grad).sum()
        for name, parameter in mixed.named_parameters()
    )
    assert mixture.alpha.grad.item() == pytest.approx(product.item(), rel=1e-4)
    for name, parameter in own.named_parameters():
        theirs = mixed.get_parameter(name).grad
        assert torch.allclose(parameter.grad, 0.3 * theirs, atol=1e-6)


def test_alpha_stays_in_its_range_and_is_kept(clients, small_model):
    fast = LocalConfig(5, 4, 0.5)
    _, kept = run(small_model(), clients, APFL(alpha=0.5), Plan(2, local=fast))
    shares = [kept[client]["strategy"][OWN_SHARE].item() for client in range(4)]
    assert all(0 <= share <= 1 for share in shares)
    assert any(share != 0.5 for share in shares)


def test_apfl_trains_the_mixture_with_what_the_clients_training_made_of_the_shared_weights(
    clients, small_model, bits
):
    plan = Plan(1, local=LOCAL, seed=5)
    _, kept = run(small_model(), clients, APFL(alpha=0.5), plan, codec=wire.dense())
    local, own = small_model(), small_model()
    seed = child_seed(5, "local", 1, 2)
    train(local, clients[2], LOCAL, seed=seed)
    mixture = Mixture(own, state.of_model(local), 0.5)
    hooks = Hooks(after=lambda _: mixture.move_share(LOCAL.lr))
    train(mixture, clients[2], LOCAL, seed=child_seed(seed, "own"), hooks=hooks)
    expected = state.of_model(own) | {OWN_SHARE: mixture.alpha.detach()}
    assert bits(kept[2]["strategy"]) == bits(dict(sorted(expected.items())))


def test_apfl_goes_on_with_the_share_a_client_has_come_to(clients, small_model):
    plan = Plan(1, local=replace(LOCAL, lr=1e-6))
    before = state.of_model(small_model()) | {OWN_SHARE: torch.tensor(0.9)}
    _, kept = run(
        small_model(), clients, APFL(alpha=0.2), plan,
        client_states={1: {"strategy": before}}, codec=wire.dense(),
    )  # fmt: skip
    shares = [kept[client]["strategy"][OWN_SHARE].item() for client in (0, 1)]
    assert shares == pytest.approx([0.2, 0.9], abs=1e-3)


# Own words


def test_own_word_vectors_begin_at_zero_and_change_nothing(clients, small_model):
    plain = small_model()
    own = OwnWordsLSTM(VOCABULARY, 6, 5, seed=0)
    assert torch.equal(predict(plain, clients[0]), predict(own, clients[0]))


def test_two_tables_that_are_both_sent_are_trained_in_the_right_rows(clients):
    model = OwnWordsLSTM(VOCABULARY, 6, 5, seed=0)
    weights, _ = run(model, clients[:1], fedavg(), Plan(1, local=LOCAL))
    moved = weights["own.weight"].any(dim=1).nonzero().flatten().tolist()
    assert moved == [word for word in clients[0].tokens.unique().tolist() if word]


@pytest.mark.parametrize("codec", [wire.touched_rows(), wire.dense()])
def test_a_client_keeps_vectors_of_its_own_words_only(clients, codec):
    model = OwnWordsLSTM(VOCABULARY, 6, 5, seed=0)
    weights, kept = run(model, clients, fedavg(), shared=keep_private("own"), codec=codec)
    assert not weights["own.weight"].any()
    for client, data in enumerate(clients):
        own = own_weights(weights, kept[client], data)["own.weight"]
        moved = own.any(dim=1).nonzero().flatten().tolist()
        assert moved == [word for word in data.tokens.unique().tolist() if word]
        rows = len(kept[client]["private"]["own.weight"])
        assert rows == (len(moved) + 1 if codec.keeps_rows else VOCABULARY)


@pytest.mark.parametrize(
    ("strategy", "epochs"), [(fedavg(), 1), (PerFedAvg(alpha=0.5), 1), (FedRep(), 2)]
)
def test_examples_of_which_nothing_is_asked_change_nothing(strategy, epochs):
    """PerFedAvg and FedRep count steps ahead; a batch in which nothing was asked took none."""

    class Level(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, values):
            return self.head(self.body(values))[:, 0]

    ends = []
    for missing in (0, 1, 3):
        targets = torch.tensor([2.0] * 3 + [torch.nan] * missing)
        data, model = Examples((torch.ones(3 + missing, 3),), targets, NUMBERS), Level()
        plan = Plan(1, local=LocalConfig(epochs, 1, 0.05, "sgd"))
        run(model, [data], strategy, plan, shared=keep_private("head"))
        ends.append(model.body.weight.detach().clone())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], Level().body.weight)


def test_what_is_kept_private_has_to_be_there(clients, small_model):
    names = dict(small_model().named_parameters())
    kept = {
        blocks: [n for n in names if not keep_private(*blocks)(n)]
        for blocks in (("head",), ("head.bias",), ("he",), ())
    }
    assert list(kept.values()) == [["head.weight", "head.bias"], ["head.bias"], [], []]
    with pytest.raises(ValueError, match=r"keep_private: got \['haed'\], expected modules or para"):
        run(small_model(), clients, fedavg(), Plan(1), shared=keep_private("head", "haed"))
