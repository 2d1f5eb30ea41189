"""The article's training loop, beside what the package does, and what its study measures.

Its slips are shown one by one in the clinic, notebook A, which also measures what they do.
"""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedlab_helpers import strategies
from fedlab_helpers.core import compute, state, training
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core.rounds import Plan
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.studies import article_loop
from fedlab_helpers.studies.article_loop import DEALS, chained_rounds, clients_in_order
from fedlab_helpers.studies.results import RESULTS
from fedlab_helpers.studies.study import best

LOCAL = LocalConfig(batch_size=4)
CLIPPED = LocalConfig(2, 4, lr=0.02, max_grad_norm=0.05)
UNCLIPPED = LocalConfig(2, 4, lr=0.02, max_grad_norm=None)
# No batches, so no order of reviews either.
WHOLE = LocalConfig(epochs=3, batch_size=None)


def federated_end(model, clients, local) -> state.State:
    federated.run(model, clients, strategies.fedavg(), Plan(1, local=local))
    return state.of_model(model)


def chained_end(model, clients, local, rounds=1, **options) -> state.State:
    assert list(chained_rounds(model, clients, local, rounds=rounds, **options))[-1] == rounds
    return state.of_model(model)


def test_a_chain_depends_on_the_order_of_clients_and_fedavg_does_not(small_model, clients):
    def check_the_order_changes_nothing(end, **options):
        both = (clients, clients[::-1])
        ends = [end(small_model(), order, WHOLE, **options) for order in both]
        assert state.norm(state.subtract(*ends)) < 1e-5

    for own_adam in (False, True):
        with pytest.raises(AssertionError):
            check_the_order_changes_nothing(chained_end, own_adam=own_adam)
    check_the_order_changes_nothing(federated_end)


def test_an_adam_that_met_another_client_moves_its_words_and_a_new_one_does_not(
    small_model, clients
):
    def moved(train, model):
        """Return the words that a step on one review of client 1 moves, after client 0."""
        start = state.of_model(model)
        train(model, clients[0])
        model.load_state_dict(start)  # nothing is left of client 0 but what `train` keeps
        train(model, clients[1].subset([0]))
        change = model.embedding.weight - start["embedding.weight"]
        return set(change.any(dim=1).nonzero().flatten().tolist())

    own, model = set(clients[1].tokens[0].tolist()), small_model()
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)

    def with_one_adam(model, data):
        adam.zero_grad()
        cross_entropy(model(data.tokens, data.lengths), data.labels).backward()
        adam.step()

    assert moved(with_one_adam, model) - own
    assert moved(lambda model, data: training.train(model, data, LOCAL), small_model()) <= own


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_clients_on_two_devices_are_averaged(small_model, clients):
    model = small_model()
    options = {"client_devices": ["cpu", "cuda"]}
    federated.run(model, clients, strategies.fedavg(), Plan(1, local=LOCAL), **options)
    moved = state.subtract(state.of_model(model), federated_end(small_model(), clients, LOCAL))
    assert state.norm(moved) < 1e-3


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


def test_an_unknown_deal_is_refused_by_name(small_task):
    with pytest.raises(ValueError, match=r"dealt: got 'by_moon', expected one of .*iid.*blocks"):
        clients_in_order("by_moon", seed=0)


def settings_of(loop: str, rounds: int, dealt: str = "iid", epochs: int = 1) -> dict:
    return {"loop": loop, "rounds": rounds, "partition": dealt, "seed": 0, "epochs": epochs}


def measured(*settings, **others) -> list[dict]:
    return article_loop.measure_loop(settings_of(*settings, **others))


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
    own = [training.evaluate(model, clients[place]).accuracy for place in (0, -1)]
    assert [row["first_client"], row["last_client"]] == own


def test_the_three_loops_are_three_and_epochs_change_each(small_task):
    ends = [
        measured(loop, rounds=1, epochs=epochs)[0]["loss"]
        for loop in article_loop.LOOPS
        for epochs in (1, 2)
    ]
    assert len(set(ends)) == 6


def test_epochs_are_judged_by_the_last_three_rounds_on_validation(small_task, reviews):
    small_task.validation = reviews(30, seed=2)
    [row] = article_loop.measure_epochs(settings_of("own_adam", rounds=4, epochs=2))
    model, late = article_loop.SentimentLSTM(50, seed=0), []
    clients = clients_in_order("iid", seed=0)
    for _ in chained_rounds(model, clients, LocalConfig(2), rounds=4, own_adam=True):
        late.append(training.evaluate(model, small_task.validation).accuracy)
    assert row["merit"] == pytest.approx(sum(late[1:]) / 3)


def test_the_epochs_are_those_that_did_best_beforehand():
    table = pd.read_csv(RESULTS / "article_loop_epochs.csv")
    won = best(table, ["partition", "loop"], ["epochs"])
    assert {case: epochs for case, (epochs,) in won.items()} == article_loop.EPOCHS
