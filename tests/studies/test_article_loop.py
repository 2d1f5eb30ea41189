"""The article's training loop: each of its slips fails a check that the package passes.

The slips are reconstructions of our own; notebook 04 measures what they do. A check takes the slip
or the package's way as a function, and asserts what must hold of it. Then the study of the loop.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedlab_helpers import strategies
from fedlab_helpers.core import compute, state, training
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core.rounds import Plan
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.studies import article_loop
from fedlab_helpers.studies.article_loop import chained_rounds, clients_in_order, measure_loop

LOCAL = LocalConfig(batch_size=4)
CLIPPED = LocalConfig(2, 4, lr=0.02, max_grad_norm=0.05)
UNCLIPPED = LocalConfig(2, 4, lr=0.02, max_grad_norm=None)
DEALS = ["iid", "one_label_alternating", "one_label_in_blocks"]


def distance(one: state.State, other: state.State) -> float:
    return state.norm(state.subtract(one, other))


def federated_end(model, clients, local, strategy=None, rounds=1) -> state.State:
    federated.run(model, clients, strategy or strategies.fedavg(), Plan(rounds, local=local))
    return state.of_model(model)


def chained_end(model, clients, local, **options) -> state.State:
    for _ in chained_rounds(model, clients, local, **{"rounds": 1, **options}):
        pass
    return state.of_model(model)


# A state that is kept without a copy


def check_the_mean_is_over_all_clients(keep):
    """`keep` maps a model to the state that is put on the list."""
    model, states = nn.Linear(1, 1, bias=False), []
    for trained in (1.0, 2.0, 6.0):
        nn.init.constant_(model.weight, trained)
        states.append(keep(model))
    assert state.weighted_mean(states, [1, 1, 1])["weight"].item() == 3


def test_live_states_average_the_last_client_with_itself_and_copies_do_not():
    with pytest.raises(AssertionError):
        check_the_mean_is_over_all_clients(lambda model: model.state_dict())
    check_the_mean_is_over_all_clients(state.of_model)


# Clients that go on where the one before them stopped


def check_the_order_of_clients_changes_nothing(play, make_model, clients):
    """`play` maps a model, clients and a config to the state after a round."""
    whole = LocalConfig(epochs=3, batch_size=None)  # no batches, so no order of reviews either
    ends = [play(make_model(), order, whole) for order in (clients, clients[::-1])]
    assert distance(*ends) < 1e-5


def test_a_chain_depends_on_the_order_of_clients_and_fedavg_does_not(small_model, clients):
    for own_adam in (False, True):
        with pytest.raises(AssertionError):
            check_the_order_of_clients_changes_nothing(
                lambda *round_, own=own_adam: chained_end(*round_, own_adam=own),
                small_model,
                clients,
            )
    check_the_order_of_clients_changes_nothing(federated_end, small_model, clients)


# One Adam for all clients


def check_a_step_moves_no_word_of_another_client(train, make_model, clients):
    """`train` maps a model and a client's reviews to the model, trained in place."""
    model = make_model()
    start = state.of_model(model)
    train(model, clients[0])
    model.load_state_dict(start)  # nothing is left of client 0 but what `train` keeps
    train(model, clients[1].subset([0]))
    moved = (model.embedding.weight - start["embedding.weight"]).any(dim=1).nonzero()
    assert set(moved.flatten().tolist()) <= set(clients[1].tokens[0].tolist())


def with_one_adam(model):
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)

    def train(model, data):
        adam.zero_grad()
        cross_entropy(model(data.tokens, data.lengths), data.labels).backward()
        adam.step()

    return train


def test_an_adam_that_met_another_client_moves_its_words_and_a_new_one_does_not(
    small_model, clients
):
    model = small_model()
    with pytest.raises(AssertionError):
        check_a_step_moves_no_word_of_another_client(with_one_adam(model), lambda: model, clients)
    check_a_step_moves_no_word_of_another_client(
        lambda model, data: training.train(model, data, LOCAL), small_model, clients
    )


# States on several devices


def check_states_can_be_added(gather):
    """`gather` maps the states of two clients, each on its own device, to what is added up."""
    model = nn.Linear(2, 1)
    states = [state.of_model(model)]
    model.to("meta")  # a second device that every machine has; its tensors hold no values
    states.append(state.of_model(model))
    for tensors in zip(*(kept.values() for kept in gather(states)), strict=True):
        sum(tensors)


def test_states_on_two_devices_cannot_be_added_until_they_are_in_one_place():
    with pytest.raises(RuntimeError, match="device"):
        check_states_can_be_added(lambda states: states)
    check_states_can_be_added(lambda states: [state.to_device(kept, "meta") for kept in states])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_clients_on_two_devices_are_averaged(small_model, clients):
    model = small_model()
    options = {"client_devices": ["cpu", "cuda"]}
    federated.run(model, clients, strategies.fedavg(), Plan(1, local=LOCAL), **options)
    assert distance(state.of_model(model), federated_end(small_model(), clients, LOCAL)) < 1e-3


# A plain mean of clients of unequal size


def check_fedsgd_is_a_step_on_the_pooled_reviews(strategy, make_model, reviews):
    """Two thirds of the reviews at one client, one third at the other."""
    pooled = reviews(12)
    parts = [pooled.subset(range(8)), pooled.subset(range(8, 12))]
    local = Plan.fedsgd(1, lr=0.5).local
    central = make_model()
    training.train(central, pooled, local)
    end = federated_end(make_model(), parts, local, strategy)
    assert distance(end, state.of_model(central)) < 1e-5


def test_a_plain_mean_is_not_a_step_on_the_pooled_reviews_and_a_weighted_one_is(
    small_model, reviews
):
    with pytest.raises(AssertionError):
        check_fedsgd_is_a_step_on_the_pooled_reviews(strategies.uniform(), small_model, reviews)
    check_fedsgd_is_a_step_on_the_pooled_reviews(strategies.fedavg(), small_model, reviews)


# No seed


def check_two_runs_agree(run, bits):
    assert bits(run()) == bits(run())


def test_without_a_seed_no_run_repeats_and_with_one_every_run_does(small_model, clients, bits):
    def unseeded():
        model = small_model(seed=None)
        train = with_one_adam(model)
        for data in clients:
            for batch in data.batches(4, torch.default_generator):
                train(model, batch)
        return state.of_model(model)

    with pytest.raises(AssertionError):
        check_two_runs_agree(unseeded, bits)
    check_two_runs_agree(lambda: federated_end(small_model(), clients, LOCAL), bits)
    check_two_runs_agree(lambda: chained_end(small_model(), clients, LOCAL), bits)


# The study: what the loop is


@pytest.mark.parametrize("local", [LOCAL, CLIPPED, UNCLIPPED])
def test_the_chain_with_a_new_adam_is_sequential_training(local, small_model, clients, bits):
    sequential = small_model()
    for number in (1, 2):
        for client, data in enumerate(clients):
            seed = compute.child_seed(7, "local", number, client)
            training.train(sequential, data, local, seed=seed)
    chain = chained_end(small_model(), clients, local, rounds=2, seed=7, own_adam=True)
    assert bits(chain) == bits(state.of_model(sequential))


def test_the_printed_chain_differs_by_the_moments_alone(small_model, clients, bits):
    def ends(clients):
        return [bits(chained_end(small_model(), clients, LOCAL, own_adam=own)) for own in (0, 1)]

    printed, own_adam = ends(clients[:1])
    assert printed == own_adam  # nobody came before the only client
    printed, own_adam = ends(clients[:2])
    assert printed != own_adam


def test_a_round_is_counted_once_all_clients_were_visited(small_model, clients):
    model = small_model()
    assert list(chained_rounds(model, clients, LOCAL, rounds=3)) == [1, 2, 3]


# The study: who is visited, and what is measured


@pytest.fixture
def small_task(monkeypatch, reviews):
    """Put 120 made-up reviews in the place of the real ones, five for each of eight clients."""
    train = reviews(120)
    task = SimpleNamespace(
        vocab=range(50),
        train=train,
        test=reviews(40, seed=1),
        clients=lambda parts: [train.subset(part) for part in parts],
    )
    monkeypatch.setattr(article_loop, "task", lambda: task)
    monkeypatch.setattr(article_loop, "REVIEWS", 5)
    monkeypatch.setattr(article_loop, "ROUNDS", 2)
    return task


@pytest.mark.parametrize("dealt", DEALS)
def test_a_deal_gives_no_review_to_two_clients_and_follows_its_seed(dealt, small_task):
    small_task.train.tokens[:, 0] = torch.arange(120)  # a number for each review
    clients = clients_in_order(dealt, seed=0)
    assert [len(data) for data in clients] == [5] * 8
    numbers = [number for data in clients for number in data.tokens[:, 0].tolist()]
    assert len(set(numbers)) == 40
    again, other = (clients_in_order(dealt, seed) for seed in (0, 1))
    assert numbers == [number for data in again for number in data.tokens[:, 0].tolist()]
    assert numbers != [number for data in other for number in data.tokens[:, 0].tolist()]


def test_one_label_clients_come_in_turn_or_in_blocks(small_task):
    def labels(dealt):
        return [set(data.labels.tolist()) for data in clients_in_order(dealt, seed=0)]

    assert labels("one_label_alternating") == [{0}, {1}] * 4
    assert labels("one_label_in_blocks") == [{0}] * 4 + [{1}] * 4


def test_the_real_deals_have_the_sizes_that_the_table_names():
    for dealt in DEALS:
        assert [len(data) for data in clients_in_order(dealt, seed=0)] == [320] * 8


def test_an_unknown_deal_is_refused_by_name(small_task):
    with pytest.raises(ValueError, match=r"dealt: got 'by_moon', expected one of .*iid.*blocks"):
        clients_in_order("by_moon", seed=0)


def measured(loop: str, rounds: int, dealt: str = "iid") -> list[dict]:
    return measure_loop({"loop": loop, "rounds": rounds, "partition": dealt, "seed": 0})


def test_a_chain_needs_eight_hops_a_round_and_fedavg_one(small_task):
    for loop in ("printed", "own_adam"):
        rows = measured(loop, rounds=2)
        assert [(row["round"], row["hops"]) for row in rows] == [(1, 8), (2, 16)]
    rows = measured("fedavg", rounds=16)
    assert [row["hops"] for row in rows] == [row["round"] for row in rows] == [1, 2, 8, 16]


def test_what_is_measured_is_what_the_model_answers(small_task):
    *_, row = measured("own_adam", rounds=2, dealt="one_label_in_blocks")
    clients = clients_in_order("one_label_in_blocks", seed=0)
    model = article_loop.SentimentLSTM(50, seed=0)
    chained_end(model, clients, LocalConfig(), rounds=2, own_adam=True)
    answers = training.predict(model, small_task.test).argmax(1)
    assert row["accuracy"] == (answers == small_task.test.labels).double().mean()
    assert row["positive_share"] == answers.double().mean()
    assert row["loss"] == pytest.approx(training.evaluate(model, small_task.test).loss)


def test_own_reviews_are_those_of_the_first_and_of_the_last_client(small_task, monkeypatch):
    tell = lambda _, data: SimpleNamespace(accuracy=data.tokens.sum().item())  # noqa: E731
    monkeypatch.setattr(article_loop, "evaluate", tell)
    (row,) = measured("printed", rounds=1)
    first, *_, last = clients_in_order("iid", seed=0)
    assert (row["first_client"], row["last_client"]) == (first.tokens.sum(), last.tokens.sum())


def test_the_three_loops_are_three(small_task):
    ends = [measured(loop, rounds=1)[0]["loss"] for loop in ("printed", "own_adam", "fedavg")]
    assert len(set(ends)) == 3
