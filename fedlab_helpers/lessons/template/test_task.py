"""What must be true of any task, before a number is believed: pytest"""

from dataclasses import replace

import pytest
import torch
from task import DATA, examples, looks, new_model
from train import PLAN, client_files, federated

from fedlab_helpers import evaluate, make_whole, of_model, run, strategies, wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.messages import Received, Request

FILES = client_files()


@pytest.fixture(scope="module")
def clients():
    """Return what each client holds."""
    return [examples(path) for path in FILES]


def few(client, count=64):
    """Return some of a client's examples."""
    return client.subset(range(min(count, len(client))))


def test_every_file_is_read_and_asks_the_same(clients):
    """Of every client, and of the test, the same is asked."""
    asked = {data.objective for data in clients} | {examples(DATA / "test.csv").objective}
    assert len(clients) >= 2
    assert len(asked) == 1
    assert all(data.asked > 0 for data in clients)


def test_no_example_of_a_client_is_judged_on():
    """No example of a client stands in the files that judge."""
    held = {look for path in FILES for look in looks(path)}
    for name in ("validation.csv", "test.csv"):
        assert looks(DATA / name)
        assert held.isdisjoint(looks(DATA / name)), name


def test_the_model_is_the_same_wherever_it_is_made():
    """Server and clients begin with the same weights."""
    one, other = of_model(new_model()), of_model(new_model())
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_one_round_by_hand_is_one_round(clients):
    """The mean of what clients send, weighted by their examples, is what the server has."""
    some, plan = [few(client) for client in clients], replace(PLAN, rounds=1)
    model = new_model()
    run(model, some, strategies.fedavg(), plan)
    first = of_model(new_model())
    workers = Clients(new_model(), some, strategies.fedavg(), plan)
    asked = [Request(1, client, Received(first)) for client in range(len(some))]
    replies = list(workers.answers(asked, {}))
    assert not [reply.failure for reply in replies if reply.failure]
    codec = wire.touched_rows()
    updates = [make_whole(wire.unpack(r.payload, codec, r.client), first) for r in replies]
    total = sum(update.examples for update in updates)
    for name, weights in of_model(model).items():
        mean = sum(u.examples / total * u.delta[name] for u in updates)
        torch.testing.assert_close(weights, first[name] + mean)


def test_a_run_repeats_to_the_bit(clients):
    """The same seed gives the same weights, however many train side by side."""
    some, ends = [few(client) for client in clients], []
    for workers in (1, 2):
        model, _ = federated(some, some[0], replace(PLAN, rounds=2, workers=workers))
        ends.append(of_model(model))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_it_learns(clients):
    """Four rounds make the loss on unseen examples less."""
    validation = examples(DATA / "validation.csv")
    model, history = federated(clients, validation, replace(PLAN, rounds=4))
    assert not [record.left_out for record in history if record.left_out]
    assert evaluate(model, validation).loss < evaluate(new_model(), validation).loss
