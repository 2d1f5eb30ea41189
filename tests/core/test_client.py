"""What clients do in one round, and what comes back from them."""

import copy
import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.messages import Received
from fedlab_helpers.core.model import SeededDropout
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.core.training import Hooks, LocalConfig, Stopped, evaluate, train
from fedlab_helpers.strategies import fedavg

CPU = torch.device("cpu")
LOCAL = LocalConfig(2, 4, 0.05, "sgd")


@pytest.fixture
def crew(clients, small_model):
    """Return a function that makes the clients of a run; each argument can be replaced."""

    def make(**changes) -> Clients:
        names = ("local", "seed", "dropout_rate", "workers", "pace")
        planned = {name: changes.pop(name) for name in names if name in changes}
        plan = Plan(1, **{"local": LOCAL, "seed": 7, "workers": 2} | planned)
        values = {"model": small_model(), "data": clients, "strategy": fedavg(), "plan": plan}
        return Clients(**values | changes)

    return make


def play(crew: Clients, number=1, cohort=range(4), states=None):
    received = {n: t for n, t in state.of_model(crew.model).items() if crew.shared(n)}
    return list(crew.replies(number, cohort, Received(received), states or {}))


def opened(crew: Clients, reply):
    return wire.unpack(reply.payload, crew.codec, reply.client)


def alone(crew: Clients, number: int, client: int):
    """Train a copy of the model on one client's reviews as anybody would, without the crew."""
    model = copy.deepcopy(crew.model)
    seed = child_seed(crew.plan.seed, "local", number, client)
    report = train(model, crew.data[client], crew.plan.local, seed=seed)
    return state.of_model(model), report


@pytest.mark.parametrize("codec", [wire.dense(), wire.touched_rows()])
def test_a_reply_holds_what_training_alone_gives(crew, bits, codec):
    team = crew(codec=codec)
    start = state.of_model(team.model)
    for reply in play(team, number=3):
        weights, report = alone(team, 3, reply.client)
        update = opened(team, reply)
        whole = rows.make_whole(update, start)
        assert bits(whole.delta) == bits(state.subtract(weights, start))
        assert (update.examples, update.steps) == (len(team.data[reply.client]), report.steps)
        assert update.losses == pytest.approx(report.losses)
        assert reply.failure is None
        assert reply.kept == {}


def test_whole_weights_are_sent_where_the_strategy_asks_for_them(crew, bits):
    team = crew(strategy=fedavg("weights"), codec=wire.dense())
    for reply in play(team):
        assert bits(opened(team, reply).delta) == bits(alone(team, 1, reply.client)[0])


def test_touched_rows_are_the_words_of_the_clients_reviews_and_padding(crew):
    team = crew()
    for reply in play(team):
        update = opened(team, reply)
        words = sorted({0, *team.data[reply.client].tokens.flatten().tolist()})
        assert update.touched_rows["embedding.weight"].tolist() == words
        assert len(update.delta["embedding.weight"]) == len(words)


def test_replies_come_in_cohort_order_however_long_each_takes(crew):
    pauses = {0: 0.08, 1: 0.0, 2: 0.04, 3: 0.0}

    def pause(update, kept, rng):
        time.sleep(pauses[update.client])
        return update, kept

    replies = play(crew(transforms=[pause], workers=4), cohort=(2, 0, 3, 1))
    assert [reply.client for reply in replies] == [2, 0, 3, 1]


def test_nothing_that_was_given_is_changed(crew, bits, small_model):
    model, states = small_model(), {}
    team = crew(model=model)
    received = state.of_model(model)
    before = bits(received), bits(state.of_model(model)), bits(state.of_model(team.model))
    list(team.replies(1, range(4), received, states))
    assert before == (bits(received), bits(state.of_model(model)), bits(state.of_model(team.model)))
    assert states == {}


def test_a_replica_is_used_again_and_carries_nothing_over(crew, bits):
    """The same round played twice, with replicas that trained on other clients between."""
    team = crew(workers=1)
    first = [reply.payload for reply in play(team)]
    play(team, number=2, cohort=(3, 2))
    assert [reply.payload for reply in play(team)] == first
    assert sum(map(len, team._idle.values())) == 1


def test_no_more_replicas_than_workers(crew):
    team = crew(workers=3)
    play(team)
    play(team, number=2)
    assert sum(map(len, team._idle.values())) <= 3


def fails_at(client: int, error: Exception):
    def fail(update, kept, rng):
        if update.client == client:
            raise error
        return update, kept

    return fail


def test_a_client_that_raises_costs_the_round_this_client_only(crew):
    healthy = play(crew())
    replies = play(crew(transforms=[fails_at(1, RuntimeError("out of battery"))]))
    assert [reply.failure for reply in replies] == [
        None,
        "RuntimeError: out of battery",
        None,
        None,
    ]
    assert replies[1].payload == b""
    assert replies[1].kept == {}
    assert [r.payload for r in replies if r.client != 1] == [
        r.payload for r in healthy if r.client != 1
    ]


def test_a_client_whose_training_raises_is_named_and_its_replica_stays_fit_for_use(crew, clients):
    bad = clients[0].with_inputs(clients[0].tokens + 45, clients[0].lengths)
    team = crew(data=[bad, *clients[1:]], workers=1)
    replies = play(team)
    assert replies[0].failure.startswith("IndexError")
    assert replies[1].payload == play(crew(workers=1))[1].payload


def test_a_client_without_reviews_is_named(crew, clients):
    replies = play(crew(data=[clients[0].subset([]), *clients[1:]]))
    assert replies[0].failure == "ValueError: data: got no example, expected at least one"
    assert all(reply.failure is None for reply in replies[1:])


def test_simulated_dropouts_are_seeded_and_come_at_the_rate_asked_for(crew, clients, small_model):
    trained = []

    class Counts(Strategy):
        def begin(self, turn):
            return Hooks(gradients=trained.append)

    team = crew(
        data=[clients[0].subset([0])] * 40,
        dropout_rate=0.3,
        local=LocalConfig(1, None, 0.1, "sgd"),
        strategy=Counts(Mean()),
    )
    out = [
        {r.client for r in play(team, number, range(40)) if r.failure} for number in (1, 2, 3, 1)
    ]
    assert out[0] == out[3]
    assert out[0] != out[1]
    assert 0.15 < (len(out[0]) + len(out[1]) + len(out[2])) / 120 < 0.45
    assert len(trained) == 160 - sum(map(len, out)), "who drops out does not train"
    reply = next(r for r in play(team, 1, range(40)) if r.failure)
    assert (reply.failure, reply.payload) == ("dropped out (simulated)", b"")


def test_who_drops_out_does_not_depend_on_who_else_is_asked(crew):
    team = crew(dropout_rate=0.5)
    for number in range(1, 6):
        of_all = {r.client: r.failure for r in play(team, number)}
        assert {r.client: r.failure for r in play(team, number, (3, 1))} == {
            client: of_all[client] for client in (3, 1)
        }


def test_stop_is_no_failure_of_a_client(crew):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        play(crew(stop=stop))


def is_shared(name: str) -> bool:
    return not name.startswith("head.")


def test_private_parameters_stay_with_the_client(crew, bits):
    team = crew(shared=is_shared)
    start = state.of_model(team.model)
    for reply in play(team):
        names = team.codec.decode(reply.payload).keys()
        assert not any("head" in name for name in names)
        assert reply.kept.keys() == {"private"}
        assert reply.kept["private"].keys() == {"head.weight", "head.bias"}
        weights, _ = alone(team, 1, reply.client)
        assert bits(reply.kept["private"]) == bits({n: weights[n] for n in reply.kept["private"]})
        assert bits(reply.kept["private"]["head.weight"]) != bits(start["head.weight"])


def test_private_parameters_start_where_the_client_left_them(crew, small_model):
    head = {"head.weight": torch.full((2, 5), 9.0), "head.bias": torch.zeros(2)}
    team = crew(shared=is_shared, local=LocalConfig(1, None, 1e-9, "sgd"))
    kept = {r.client: r.kept["private"] for r in play(team, states={2: {"private": head}})}
    torch.testing.assert_close(kept[2], head)
    torch.testing.assert_close(kept[1]["head.weight"], small_model().head.weight.detach())


def scaled(factor):
    def scale(update, kept, rng):
        return replace(update, delta={n: factor * t for n, t in update.delta.items()}), kept

    return scale


def shifted(update, kept, rng):
    return replace(update, delta={n: t + 1 for n, t in update.delta.items()}), kept


def test_transforms_run_in_the_order_given(crew):
    plain = opened(crew(), play(crew())[0]).delta["head.bias"]
    for transforms, expected in (
        ([scaled(2), shifted], 2 * plain + 1),
        ([shifted, scaled(2)], 2 * (plain + 1)),
    ):
        team = crew(transforms=transforms)
        assert torch.equal(opened(team, play(team)[0]).delta["head.bias"], expected)


def counts(update, kept, rng):
    return update, {"calls": kept.get("calls", torch.tensor(0)) + 1}


def test_each_transform_gets_what_it_kept_for_this_client(crew):
    states = {1: {"transform1": {"calls": torch.tensor(10)}}}
    replies = play(crew(transforms=[counts, counts]), states=states)
    kept = {r.client: {o: int(s["calls"]) for o, s in r.kept.items()} for r in replies}
    assert kept[0] == {"transform0": 1, "transform1": 1}
    assert kept[1] == {"transform0": 1, "transform1": 11}
    assert int(states[1]["transform1"]["calls"]) == 10, "the old state is not changed"


def test_a_transform_that_keeps_nothing_leaves_no_trace(crew):
    assert all(reply.kept == {} for reply in play(crew(transforms=[shifted])))


def test_a_transforms_randomness_is_its_own_and_repeats(crew):
    def draw(update, kept, rng):
        return update, {"drawn": torch.rand(2, generator=rng)}

    def drawn(team, number):
        return [
            tuple(reply.kept[owner]["drawn"].tolist())
            for reply in play(team, number)
            for owner in ("transform0", "transform1")
        ]

    team = crew(transforms=[draw, draw])
    numbers = drawn(team, 1) + drawn(team, 2) + drawn(crew(transforms=[draw, draw], seed=8), 1)
    assert len(set(numbers)) == 24, "no two clients, rounds, places or seeds share their numbers"
    assert drawn(crew(transforms=[draw, draw], workers=1), 1) == numbers[:8]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "embedding.weight"),
        ({"codec": wire.dense()}, None),
        ({"local": LocalConfig(weight_decay=0.1)}, None),
        ({"shared": lambda name: name != "embedding.weight"}, None),
        ({"model": nn.Linear(2, 2)}, None),
    ],
)
def test_rows_are_selected_only_where_that_changes_nothing(crew, changes, name):
    assert crew(**changes).table == name


def test_with_weight_decay_every_row_is_trained_and_sent(crew):
    team = crew(local=LocalConfig(2, 4, 0.05, "sgd", weight_decay=0.1))
    update = opened(team, play(team)[0])
    assert update.touched_rows == {}
    assert (update.delta["embedding.weight"][1:] != 0).all(), "decay moves unseen words too"


def test_a_frozen_table_stays_frozen_when_its_rows_are_selected(crew, small_model):
    model = small_model()
    model.embedding.weight.requires_grad_(False)
    team = crew(model=model)
    update = opened(team, play(team)[0])
    assert not update.delta["embedding.weight"].any()
    assert update.delta["head.weight"].any()


def test_a_token_parameter_that_is_not_there_is_named(crew, small_model):
    model = small_model()
    model.token_parameter = "embeddings.weight"
    expected = r"token_parameter: got 'embeddings.weight', expected one of \['embedding.weight', "
    with pytest.raises(ValueError, match=expected):
        crew(model=model)


class Stacked(nn.Module):
    def __init__(self, between: float = 0.0):
        super().__init__()
        self.table = nn.Embedding(50, 4)
        self.drop = nn.Dropout(0.5)
        self.layers = nn.LSTM(4, 4, num_layers=2, dropout=between, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, tokens, lengths):
        return self.out(self.layers(self.drop(self.table(tokens)))[0][:, -1])


def test_a_readers_dropout_is_mended_in_the_copy_not_in_the_readers_model(crew):
    model = Stacked()
    team = crew(model=model)
    assert type(team.model.drop) is SeededDropout
    assert team.model.drop.p == 0.5
    assert type(model.drop) is nn.Dropout


def test_a_readers_dropout_repeats_whatever_the_global_generator_does(crew):
    torch.manual_seed(0)
    model = Stacked()
    payloads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        payloads.append([reply.payload for reply in play(crew(model=model, workers=4))])
    assert payloads[0] == payloads[1]
    assert all(payloads[0])


def test_dropout_inside_an_lstm_is_refused_by_name(crew):
    with pytest.raises(ValueError, match=r"model: layers is a LSTM that draws from .*nn\.Dropout"):
        crew(model=Stacked(between=0.3))


def test_one_parameter_under_two_names_is_shared_or_not(crew, small_model):
    """Shared under one name and private under the other, what was averaged would be lost."""
    model = small_model()
    model.again = model.head
    for shared in (lambda name: True, lambda name: not name.startswith(("head", "again"))):
        crew(model=model, shared=shared)
    with pytest.raises(
        ValueError, match=r"shared: got \['head.bias', 'again.bias'\], expected all or"
    ):
        crew(model=model, shared=lambda name: name != "again.bias")


def test_a_long_evaluation_is_stopped_between_two_batches(small_model, clients):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        evaluate(small_model(), clients[0], stop=stop)
