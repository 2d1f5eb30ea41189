"""Federated training over Flower: the same numbers as in one process, and only bytes between."""
# ruff: noqa: E402

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pandas
import psutil
import pytest
import torch

flwr = pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from local_grid import LocalGrid

from fedlab_helpers.core.history import RoundBooks
from fedlab_helpers.core.messages import Reply
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run, sample_cohort
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.lessons.checks import network as checks
from fedlab_helpers.network import (
    Job,
    Node,
    client_app,
    deadline,
    flower,
    processes,
    runs,
    server_app,
)
from fedlab_helpers.network.flower import LINK, NODES, NetworkError
from fedlab_helpers.network.kept import Kept, digest
from fedlab_helpers.network.keys import make_certificates, make_key
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.node import write_reviews
from fedlab_helpers.network.processes import wait_for
from fedlab_helpers.network.runs import write_app
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.tasks import glucose
from fedlab_helpers.tasks.reviews.corpus import load_reviews
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize_all

SUMMED = SecureSum(16, 2.0, most_examples=40)
MODEL = {"embedding_dim": 6, "hidden_size": 5, "pooling": "mean", "dropout": 0.2, "seed": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of 30 reviews, as three machines would own them."""
    every = load_reviews()
    owned = [every[k::600][:15] + every[-1 - k :: -600][:15] for k in range(3)]
    return write_reviews(tmp_path_factory.mktemp("own"), owned)


@pytest.fixture(scope="module")
def job(files):
    texts = [review.text for path in files for review in load_reviews(path)]
    words = Vocabulary.build(tokenize_all(texts), min_count=2).words[2:]
    plan = Plan(3, 2, LocalConfig(batch_size=8, lr=0.05), seed=5)
    return Job(words, plan, model=MODEL)


def config_of(job, folder, nodes, timeout=5.0):
    """Return the configuration of a run."""
    config = {"job": job.to_json(), "folder": str(folder), "nodes": nodes}
    more = {
        "run": "run1",
        "timeout": timeout or 0.0,
        "wait": timeout or 5.0,
        "least": nodes,
        "test": "",
        "simulated": "[]",
    }
    return config | more


def run_job(job, files, folder, app=client_app.app, timeout=5.0, change=lambda grid: None):
    """Run the ServerApp over nodes in this process; return the records of its rounds."""
    config = config_of(job, folder, len(files), timeout)
    nodes = [
        {"client": c, "reviews": str(path), "sha256": digest(path), "kept": str(folder / f"own{c}")}
        for c, path in enumerate(files)
    ]
    grid = LocalGrid(app, nodes, config)
    change(grid)
    context = Context(1, 0, {}, RecordDict(), config)
    server_app.main(grid, context)
    return list(runs.records(folder))


def simulated(job, files, transforms=()):
    model, codec = job.new_model(), job.new_codec()
    data = [Node.owning(job, client, path).reviews for client, path in enumerate(files)]
    strategy = job.new_strategy()
    how = {"secure": job.secure} if job.secure else {"codec": codec}
    how |= {"transforms": transforms, "downlink": job.new_downlink()}
    history = run(model, data, strategy, job.plan, **how)
    return of_model(model), history


def of_model_after(job, files, lost):
    """Return the weights of the simulation with these clients left out of these rounds."""
    with pytest.MonkeyPatch.context() as patch:
        read = RoundBooks.read

        def lose(books, reply):
            gone = reply.client in lost.get(books.round, ())
            return read(books, Reply(reply.client, failure="lost") if gone else reply)

        patch.setattr(RoundBooks, "read", lose)
        return simulated(job, files)[0]


def require_agreement(job, files, folder, bits, **options):
    """Require that a network ends as the simulation does, to the bit."""
    records, weights = run_job(job, files, folder, **options), runs.weights(folder)
    expected, history = simulated(job, files)
    assert bits(weights) == bits(expected) != bits(of_model(job.new_model()))
    for record, other in zip(records, history, strict=True):
        assert replace(record, seconds=other.seconds) == other
    model = job.new_model()
    model.load_state_dict(weights)
    for client, path in enumerate(files):
        own = evaluate(model, Node.owning(job, client, path).reviews)
        assert runs.metrics(folder)[client] == pytest.approx(dict(own))


@pytest.mark.parametrize(
    ("strategy", "codec"),
    [("fedavg", "dense"), ("fedprox", "dense"), ("scaffold", "dense"), ("rowwise", "touched_rows"),
     ("fedavg", "signs")],
)  # fmt: skip
def test_a_network_ends_in_the_weights_of_the_simulation(
    job, files, tmp_path, bits, strategy, codec
):
    options = {"mu": 0.1} if strategy == "fedprox" else {}
    job = replace(job, strategy=strategy, options=options, codec=codec)
    require_agreement(job, files, tmp_path, bits)


RANK_2 = {"keep": "lowrank", "amount": 2, "write": "bits8"}


@pytest.mark.parametrize(
    ("strategy", "codec", "downlink"),
    [("fedavg", "signs", "touched_rows"), ("fedavg", "signs", "signs"),
     ("fedadam", "dense", RANK_2), ("scaffold", "dense", "signs"), ("scaffold", "dense", RANK_2)],
)  # fmt: skip
def test_changes_go_down_as_in_the_simulation(
    job, files, tmp_path, bits, strategy, codec, downlink
):
    """Each client is sent what it missed, also where it sat out, and no weights."""
    job = replace(job, strategy=strategy, codec=codec, downlink=downlink)
    assert Job.from_json(job.to_json()) == job
    job, sent = replace(job, plan=replace(job.plan, rounds=5)), []

    def watching(message, context):
        if message.metadata.message_type == "train":
            sent.append(message.content["request"])
        return client_app.app(message, context)

    require_agreement(job, files, tmp_path, bits, app=watching)
    changes = [len(asked["changes"]) for asked in sent if "weights" not in asked]
    assert {0, 1} < {*changes}  # the first weights are known; who sat out was sent two
    for number, record in enumerate(runs.records(tmp_path), 1):
        bodies = [asked for asked in sent if asked["round"] == number]
        down = sum(len(b) for body in bodies for b in body.get("changes", ()))
        down += sum(len(body.get(n, b"")) for body in bodies for n in ("weights", "extra"))
        assert down == record.bytes_down


def test_changes_go_down_beside_a_secure_sum(job, files, tmp_path, bits):
    job = replace(job, codec="dense", secure=SUMMED, downlink="signs")
    run_job(job, files, tmp_path)
    assert bits(runs.weights(tmp_path)) == bits(simulated(job, files)[0])


def damage_held(own):
    (path,) = own.glob("*/held")
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def go_back(own):
    held = Kept(own, "run1")
    held.hold(held.held() | {"version": {"number": torch.tensor(7)}})


def shift(own):
    held = Kept(own, "run1")
    weights = {name: tensor + 1e-3 for name, tensor in held.held()["weights"].items()}
    held.hold(held.held() | {"weights": weights})


@pytest.mark.parametrize(
    ("harm", "why"),
    [(shutil.rmtree, "changes from version 0 to 1 came"), (damage_held, "WireError"),
     (go_back, "this client holds version 7"), (shift, "not what the server has as version 2")],
)  # fmt: skip
def test_who_holds_something_else_is_sent_the_weights_whole_next_time(
    job, files, tmp_path, bits, harm, why
):
    plan = replace(job.plan, rounds=5, clients_per_round=None)
    job, kinds = replace(job, plan=plan, downlink="signs"), []

    def harmed(message, context):
        asked = message.content["request"]
        kinds.append("weights" in asked)
        if asked["round"] == 3:
            harm(Path(context.node_config["kept"]))
        return client_app.app(message, context)

    records = run_job(job, files, tmp_path, app=instead("train", {1}, harmed))
    if harm is shutil.rmtree:
        why = "changes from version 1 to 2 came, and this client holds version 0"
    assert left_out(records) == [[], [], [1], [], []]
    assert why in records[2].left_out[1]
    assert kinds == [False, False, False, True, False]
    assert bits(of_model_after(job, files, {3: [1]})) == bits(runs.weights(tmp_path))


@pytest.mark.parametrize("place", ["changes", "crc", "version"])
def test_damaged_changes_are_seen(job, files, tmp_path, place):
    plan = replace(job.plan, rounds=3, clients_per_round=None)
    job = replace(job, plan=plan, downlink="touched_rows")

    def damaged(message, context):
        asked = message.content["request"]
        if asked["round"] == 2:
            was = asked[place]
            asked[place] = [was[0][:-1] + b"x"] if place == "changes" else was + 1
        return client_app.app(message, context)

    records = run_job(job, files, tmp_path, app=instead("train", {1}, damaged))
    assert left_out(records) == [[], [1], []]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("downlink", [None, "signs"])
def test_where_all_answers_are_lost_all_are_asked_once_more(
    job, files, tmp_path, bits, monkeypatch, downlink, again
):
    """A SuperLink that stands still for half a minute loses what it was being sent, and nodes, who
    start again."""
    monkeypatch.setattr(deadline, "SILENCE", (0.2, 0))
    job, asked = replace(job, strategy="scaffold", codec="dense", downlink=downlink), []

    def lost(message, context):
        answer = client_app.app(message, context)
        if message.metadata.message_type == "train":
            asked.append(message.content["request"]["round"])
            if asked.count(2) in (1, 2) and asked[-1] == 2:
                return None if asked.count(2) == 1 else Message(Error(5, ""), reply_to=message)
        return answer

    def change(grid):
        online = grid.get_nodes

        def there():
            if again and asked.count(2) == 2:  # all started anew, and are other nodes
                for number in (1, 2, 3):
                    grid.contexts[number + 10] = (
                        grid.contexts.pop(number, None) or (grid.contexts[number + 10])
                    )
            return online()

        grid.get_nodes = there

    records = run_job(job, files, tmp_path, app=lost, timeout=None, change=change)
    assert asked == [1, 1, 2, 2, 2, 2, 3, 3]
    assert left_out(records) == [[], [], []]
    assert bits(runs.weights(tmp_path)) == bits(simulated(job, files)[0])


@pytest.mark.parametrize("secure", [None, SUMMED])
def test_a_run_with_changes_goes_on_from_its_checkpoint(job, files, tmp_path, bits, secure):
    """Nodes hold what they were brought up to, also where the server has lost a round."""
    plan = replace(job.plan, rounds=5)
    job = replace(job, plan=plan, codec="dense", downlink="signs", secure=secure)

    def lost(message, context):
        if message.content.get("request", {}).get("round") == 3:
            client_app.app(message, context)
            raise KeyboardInterrupt
        return client_app.app(message, context)

    with pytest.raises(KeyboardInterrupt):
        run_job(job, files, tmp_path, app=lost)
    run_job(job, files, tmp_path)
    assert bits(runs.weights(tmp_path)) == bits(simulated(job, files)[0])


@pytest.mark.parametrize(
    ("strategy", "options"), [("fedavg", {}), ("private", {"noise_multiplier": 0.0})]
)
def test_cohorts_may_be_drawn_by_coins(job, files, tmp_path, bits, strategy, options):
    plan = replace(job.plan, rounds=4, clients_per_round=1, sampling="poisson", seed=1)
    assert {len(sample_cohort(plan, number, 3)) for number in range(1, 5)} >= {0, 1}
    job = replace(job, plan=plan, strategy=strategy, options=options)
    assert Job.from_json(job.to_json()) == job
    require_agreement(job, files, tmp_path, bits)


@pytest.mark.parametrize(
    ("strategy", "options", "secure"),
    [
        ("fedavg", {}, SUMMED),
        ("fedadam", {}, replace(SUMMED, bits=8)),
        ("private", {"noise_multiplier": 0.0}, SecureSum(32)),
    ],
)
def test_a_secure_sum_ends_in_the_weights_of_the_simulation(
    job, files, tmp_path, bits, strategy, options, secure
):
    job = replace(job, strategy=strategy, options=options, codec="dense", secure=secure)
    assert Job.from_json(job.to_json()) == job
    records, weights = run_job(job, files, tmp_path), runs.weights(tmp_path)
    model = job.new_model()
    data = [Node.owning(job, client, path).reviews for client, path in enumerate(files)]
    history = run(model, data, job.new_strategy(), job.plan, secure=secure)
    assert bits(weights) == bits(of_model(model)) != bits(of_model(job.new_model()))
    for record, other in zip(records, history, strict=True):
        assert record.client_losses.keys() == other.client_losses.keys()
        assert (record.bytes_up, record.examples) == (other.bytes_up, other.examples)


@pytest.mark.parametrize(
    ("last", "left_out"), [("advertise", 2), ("share", 2), ("mask", None), ("unmask", None)]
)
def test_a_node_may_be_lost_between_two_phases(job, files, tmp_path, bits, last, left_out):
    """After it has shared, what it would have masked is removed; after it has masked, it counts."""
    secure = replace(SUMMED, share=0.6)
    plan = replace(job.plan, rounds=1, clients_per_round=None)
    job = replace(job, codec="dense", secure=secure, plan=plan)
    order = ["advertise", "share", "mask", "unmask"]

    def app(message, context):
        asked = message.content.get("request", {})
        gone = asked.get("client") == 2 and order.index(asked["phase"]) > order.index(last)
        return None if gone else client_app.app(message, context)

    (record,) = run_job(job, files, tmp_path, app, timeout=1.0)
    assert record.left_out == ({} if left_out is None else {left_out: "no answer in time"})
    model, those = job.new_model(), [n for n in range(3) if n != left_out]
    data = [Node.owning(job, client, files[client]).reviews for client in those]
    run(model, data, job.new_strategy(), plan)
    apart = [(runs.weights(tmp_path)[n] - t).abs().max() for n, t in of_model(model).items()]
    assert 0 < float(max(apart)) < 2 * 2.0 * 3 / 32767 * 2


def test_a_message_of_another_round_or_order_is_refused(job, files):
    job = replace(job, codec="dense", secure=SUMMED)
    node = Node.owning(job, 0, files[0])
    asked = {"round": 1, "clients": 3, "phase": "share", "message": b""}
    reply, held = node.answer(asked, "", {})
    assert held == ""
    assert "step: got 'share', expected advertise: each once and in order" in reply.failure
    reply, held = node.answer(asked | {"phase": "advertise"}, "", {})
    assert len(reply.payload) == 64
    reply, held = node.answer(asked | {"phase": "advertise"}, held, {})
    assert "got 'advertise', expected share" in reply.failure


def test_a_secure_sum_is_of_every_value(job):
    with pytest.raises(ValueError, match="codec: got 'touched_rows', expected 'dense'"):
        replace(job, secure=SUMMED)


def test_a_server_adds_noise_and_keeps_the_account(job, files, tmp_path):
    records = run_job(replace(job, strategy="private"), files, tmp_path)
    epsilons = [record.told["epsilon"] for record in records]
    assert 0 < epsilons[0] < epsilons[1] < epsilons[2]
    assert not any(record.repeatable or record.left_out for record in records)


@pytest.mark.parametrize("secure", [None, SUMMED])
@pytest.mark.parametrize("once", [False, True])
def test_updates_pass_the_same_transforms(job, files, tmp_path, bits, monkeypatch, once, secure):
    """What one keeps stays at the node; where it no longer keeps it, it is gone there, too."""

    def shaken(update, kept, rng):
        times = kept.get("times", torch.zeros(1)) + 1
        noise = {n: torch.randn(t.shape, generator=rng) for n, t in update.delta.items()}
        delta = {n: t + times * 1e-3 * noise[n] for n, t in update.delta.items()}
        return replace(update, delta=delta), {} if once and kept else {"times": times}

    job = replace(job, plan=replace(job.plan, rounds=4, clients_per_round=None))
    job, own = replace(job, codec="dense", secure=secure), client_app.node_of
    monkeypatch.setattr(
        client_app, "node_of", lambda context: replace(own(context), transforms=(shaken,))
    )
    run_job(job, files, tmp_path)
    assert bits(runs.weights(tmp_path)) == bits(simulated(job, files, [shaken])[0])
    assert bits(runs.weights(tmp_path)) != bits(simulated(job, files)[0])


@pytest.fixture
def everyone(job):
    """A job in which all three train, in each of two rounds."""
    return replace(job, plan=replace(job.plan, rounds=2, clients_per_round=None))


def left_out(records):
    return [sorted(record.left_out) for record in records]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"words": 7}, "embedding.weight is ({0}, 6), expected ({1}, 6); this run's vocabulary"),
        ({"hidden_size": 4}, "recurrent.weight_ih_l0 is (20, 6), expected (16, 6)"),
        ({"cell": "gru"}, "recurrent.weight_ih_l0 is (20, 6), expected (15, 6)"),
    ],
)
def test_a_node_with_another_model_refuses_by_name(everyone, files, tmp_path, other, why):
    size = len(everyone.vocab)

    def change(grid):
        model = {**everyone.model, **other}
        words = everyone.words[: -model.pop("words", 0) or None]
        job = replace(everyone, words=words, model=model)
        grid.contexts[2].run_config = config_of(job, tmp_path, 3)

    records = run_job(everyone, files, tmp_path, change=change)
    assert left_out(records) == [[1], [1]]
    assert why.format(size, size - 7) in records[0].left_out[1]


def test_a_node_whose_reviews_are_gone_costs_only_itself(everyone, files, tmp_path):
    def change(grid):
        grid.contexts[3].node_config["reviews"] = str(tmp_path / "gone.csv")

    records = run_job(everyone, files, tmp_path, change=change)
    assert left_out(records) == [[2], [2]]
    assert "gone.csv" in records[0].left_out[2]
    assert set(runs.metrics(tmp_path)) == {0, 1}


def instead(kind, clients, answer):
    """Return an app that answers one kind of message otherwise, where it is for these clients."""

    def app(message, context):
        meant = message.metadata.message_type == kind and context.node_config["client"] in clients
        return (answer if meant else client_app.app)(message, context)

    return app


def nothing(message, context):
    return None


def test_who_goes_is_missed_and_who_comes_back_is_asked_again(job, files, tmp_path):
    job = replace(job, plan=replace(job.plan, rounds=3, clients_per_round=None))

    def change(grid):
        online, looks = grid.get_nodes, iter((3, 3, 2, 3, 3))

        def there():
            if next(looks, 3) == 2:
                grid.contexts[7] = grid.contexts.pop(2)  # comes back under another id
                return [node for node in online() if node.node_id != 7]
            return online()

        grid.get_nodes = there

    records = run_job(job, files, tmp_path, change=change)
    assert [record.left_out for record in records] == [{}, {1: "no node is there"}, {}]


@pytest.mark.parametrize("damage", [False, True])
@pytest.mark.parametrize(("strategy", "codec"), [("scaffold", "dense"), ("fedavg", "signs")])
def test_who_answers_in_vain_goes_back_to_what_it_kept(
    job, files, tmp_path, bits, strategy, codec, damage
):
    """As in the simulation, where what a client keeps counts only if its update does."""
    plan = replace(job.plan, rounds=4, clients_per_round=None)
    job = replace(job, strategy=strategy, codec=codec, plan=plan)

    def in_vain(message, context):
        answer = client_app.app(message, context)
        if message.content["request"]["round"] != 2:
            return answer
        answer.content["reply"]["payload"] = b"damaged"
        return answer if damage else None

    records = run_job(job, files, tmp_path, app=instead("train", {1}, in_vain), timeout=0.3)
    assert left_out(records) == [[], [1], [], []]
    assert bits(runs.weights(tmp_path)) == bits(of_model_after(job, files, {2: [1]}))


@pytest.mark.parametrize(("strategy", "refused"), [("scaffold", [1]), ("fedavg", [])])
def test_a_node_that_lost_what_its_client_keeps_says_so(job, files, tmp_path, strategy, refused):
    plan = replace(job.plan, rounds=3, clients_per_round=None)
    job = replace(job, strategy=strategy, plan=plan)

    def forgetful(message, context):
        if message.content["request"]["round"] == 2:
            shutil.rmtree(context.node_config["kept"])
        return client_app.app(message, context)

    records = run_job(job, files, tmp_path, app=instead("train", {1}, forgetful))
    assert left_out(records) == [[], refused, refused]
    for record in records[1:] if refused else ():
        assert "keeps of round 1 is lost: its node was started anew" in record.left_out[1]


def test_the_exercise_about_it_knows_these_words():
    with pytest.raises(ValueError, match=checks.LOST):
        Kept("nowhere", "run1").load(1)


def saying(**records):
    """Return what answers with these records, whatever is asked."""
    return lambda message, _: Message(RecordDict(records), reply_to=message)


def damaging(message, context):
    answer = client_app.app(message, context)
    body = answer.content["reply"]
    body["payload"] = body["payload"][:-40] + bytes(40)
    return answer


BODY = {"payload": b"", "crc": 0, "failure": "", "keeps": False}
ANSWERS = {
    "nothing": (nothing, "no answer in time"),
    "a damaged payload": (damaging, "damaged on the way"),
    "a payload of another kind": (saying(reply=ConfigRecord(BODY)), "WireError: 0 bytes are no"),
    "no record": (saying(), "KeyError"),
    "another record": (saying(reply=MetricRecord({"payload": 7})), "KeyError"),
    "an empty record": (saying(reply=ConfigRecord({})), "KeyError"),
    "a payload of no bytes": (saying(reply=ConfigRecord(BODY | {"payload": 7})), "TypeError"),
    "a reason of bytes": (saying(reply=ConfigRecord(BODY | {"failure": b"x"})), "TypeError"),
    "it keeps 1": (saying(reply=ConfigRecord(BODY | {"keeps": 1})), "TypeError"),
    "what a terminal obeys": (
        saying(reply=ConfigRecord(BODY | {"failure": "a\x1b]0;b\x07\nc"})),
        "a ]0;b  c",
    ),
    "a long reason": (saying(reply=ConfigRecord(BODY | {"failure": "x" * 10_000})), "xxx"),
}


@pytest.mark.parametrize(("answer", "why"), ANSWERS.values(), ids=ANSWERS)
def test_a_wrong_answer_costs_only_its_sender(everyone, files, tmp_path, answer, why):
    job, app = replace(everyone, codec="ternary"), instead("train", {2}, answer)
    records = run_job(job, files, tmp_path, app=app, timeout=0.3)
    assert left_out(records) == [[2], [2]]
    assert why in records[0].left_out[2]
    assert len(records[0].left_out[2]) <= 500


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"metrics": ConfigRecord({"loss": b"x"})},
        {"metrics": MetricRecord({"loss": 1.0})},
        {"metrics": MetricRecord({"loss": 1.0, "examples": 9, "\x1b[2J": 1.0})},
    ],
)
def test_nonsense_for_metrics_loses_only_these(everyone, files, tmp_path, records):
    run_job(everyone, files, tmp_path, app=instead("evaluate", {2}, saying(**records)))
    assert set(runs.metrics(tmp_path)) == {0, 1}


@pytest.mark.parametrize(
    "records",
    [{}, {"node": ConfigRecord({})}]
    + [{"node": ConfigRecord({"client": c})} for c in (3, -1, "2")],
)
def test_who_claims_to_be_no_client_is_not_asked(everyone, files, tmp_path, records):
    app = instead("query", {2}, saying(**records))
    with pytest.raises(NetworkError, match=r"clients \[0, 1\] came, \[2\] did not in 0 s"):
        run_job(everyone, files, tmp_path, app=app, timeout=0.3)


def test_a_node_with_a_key_is_the_client_that_it_was_registered_for(everyone, files, tmp_path):
    def change(grid):
        grid.names = {1: "client0", 2: "client1", 3: "client0"}

    with pytest.raises(NetworkError, match=r"clients \[0, 1\] came, \[2\] did not in 0 s"):
        run_job(everyone, files, tmp_path, timeout=0.3, change=change)


def test_a_newcomer_that_says_nothing_is_waited_for_once(everyone, files, tmp_path):
    def change(grid):
        grid.contexts[4] = Context(1, 4, {"client": 9}, RecordDict(), {})

    began = time.monotonic()
    mute = instead("query", {9}, nothing)
    records = run_job(everyone, files, tmp_path, app=mute, timeout=2.0, change=change)
    assert time.monotonic() - began < 3.5 + sum(record.seconds for record in records)
    assert left_out(records) == [[], []]
    assert all(record.seconds < 1.9 for record in records)


@pytest.mark.parametrize("dropped", [False, True])
def test_messages_that_the_server_does_not_take_cost_their_nodes(
    everyone, files, tmp_path, dropped
):
    """Flower's grids tell it in two ways: None among the ids, and fewer ids."""

    def change(grid):
        push = grid.push_messages

        def refusing(messages):
            ids = dict(zip(messages, push(messages), strict=True))
            about = {number: message.metadata for message, number in ids.items()}
            lost = {n for n, m in about.items() if (m.dst_node_id, m.message_type) == (2, "train")}
            return [None if n in lost else n for n in about if not (dropped and n in lost)]

        grid.push_messages = refusing

    records = run_job(everyone, files, tmp_path, timeout=0.3, change=change)
    assert left_out(records) == [[1], [1]]
    assert "its message was not taken" in records[0].left_out[1]


def test_an_answer_that_cannot_be_read_costs_only_its_sender(everyone, files, tmp_path):
    def change(grid):
        pull = grid.pull_messages

        def pulling(numbers):
            answers = pull(numbers)
            for answer in answers:
                train = answer.metadata.message_type == "train"
                if train and answer.metadata.src_node_id == 2:
                    raise OSError("no message at all")
            return answers

        grid.pull_messages = pulling

    records = run_job(everyone, files, tmp_path, timeout=3.0, change=change)
    assert [record.left_out for record in records] == [{1: "OSError: no message at all"}] * 2


def test_of_two_nodes_for_one_client_the_newer_is_asked(everyone, files, tmp_path):
    """Also where both are seen for the first time: a run begins after one was killed."""

    def change(grid):
        grid.contexts[9] = grid.contexts[2]
        grid.contexts = {number: grid.contexts[number] for number in (9, 1, 2, 3)}
        grid.names = {1: "client0", 2: "client1", 3: "client2", 9: "client1"}

    def dead(message, context):
        return None if message.metadata.dst_node_id == 2 else client_app.app(message, context)

    records = run_job(everyone, files, tmp_path, app=dead, timeout=3.0, change=change)
    assert left_out(records) == [[], []]


def test_a_quick_refusal_gives_nobody_less_time(everyone, files, tmp_path, monkeypatch):
    """A node that refuses at once says nothing about how long the work takes."""
    monkeypatch.setattr(deadline, "FLOOR", 0.2)

    def change(grid):
        pull, asked = grid.pull_messages, {}

        def slowly(numbers):
            found = []
            for answer in pull(numbers):
                late = answer.metadata.src_node_id == 2 and "reply" in answer.content
                first = asked.setdefault(answer.metadata.reply_to_message_id, time.monotonic())
                if late and time.monotonic() < first + 1.0:
                    grid.replies[numbers[0]] = answer
                else:
                    found.append(answer)
            return found

        grid.pull_messages = slowly

    def refusing(message, context):
        body = BODY | {"failure": "no"}
        return Message(RecordDict({"reply": ConfigRecord(body)}), reply_to=message)

    app = instead("train", {0, 2}, refusing)
    records = run_job(everyone, files, tmp_path, app=app, timeout=None, change=change)
    assert left_out(records) == [[0, 2], [0, 2]]


def test_a_node_that_could_not_say_who_it_is_is_asked_again(everyone, files, tmp_path):
    asked = []

    def stumbles(message, context):
        asked.append(message)
        if len(asked) == 1:
            raise OSError("not yet")
        return client_app.app(message, context)

    stumbles = instead("query", {1}, stumbles)
    assert left_out(run_job(everyone, files, tmp_path, app=stumbles)) == [[], []]
    assert len(asked) == 2


def test_why_a_run_failed_is_told(job, files, tmp_path):
    silent = instead("train", {0, 1, 2}, nothing)
    with pytest.raises(Exception, match="every client was left out"):
        run_job(job, files, tmp_path, app=silent, timeout=0.3)
    with pytest.raises(NetworkError, match="NoUpdateLeft: round 1: every client was left out"):
        list(runs.records(tmp_path))


def test_a_virtual_client_is_the_one_of_its_number(everyone, files, tmp_path, bits):
    def change(grid):
        for number, context in grid.contexts.items():
            context.node_config = {"partition-id": number - 1, "num-partitions": 3}
            context.run_config["simulated"] = json.dumps(list(map(str, files)))

    require_agreement(everyone, files, tmp_path, bits, change=change)


# Jobs and runs


def test_a_run_whose_server_died_is_not_waited_for(tmp_path, monkeypatch):
    def said(folder, *arguments):
        assert (folder, arguments) == (tmp_path, ("ls", LINK))
        runs_ = [{"run-id": "8", "status": "running"}, {"run-id": "9", "status": state}]
        return json.dumps({"success": True, "runs": runs_})

    monkeypatch.setattr(flower, "call", said)
    monkeypatch.setattr(runs, "PATIENCE", 0.2)
    results = tmp_path / "results1"
    results.mkdir()
    (results / runs.RUN).write_text('{"flower": "9"}')
    state = "finished:failed"
    with pytest.raises(NetworkError, match="0 rounds are done, and Flower says 'finished:failed'"):
        list(runs.records(results, timeout=30))
    state = "running"
    with pytest.raises(NetworkError, match="0 rounds are done, and no end after 1 s"):
        list(runs.records(results, timeout=1.0))


def test_words_in_a_log_are_waited_for(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(TimeoutError, match="expected 'up' 1 times, got: "):
        wait_for("up", log, timeout=0.2)
    log.write_text("up, and up")
    assert wait_for("up", log, times=2) == "up, and up"
    with pytest.raises(TimeoutError, match="expected 'up' 3 times, got: up, and up"):
        wait_for("up", log, times=3, timeout=0.2)


GUARDED = """
import os, subprocess, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import processes

sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
marked = subprocess.Popen(sleep, env=os.environ | {processes.MARK: "token of a test"})
processes.claim(Path(sys.argv[2]))
held = processes.guard("token of a test", Path(sys.argv[2]))
fork = os.fork()  # has the guard's pipe open, too
if fork:
    print(marked.pid, fork, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_what_a_killed_process_started_is_ended(tmp_path):
    own = [str(Path(processes.__file__).parent), str(tmp_path / "file")]
    parent = subprocess.Popen([sys.executable, "-c", GUARDED, *own], stdout=subprocess.PIPE)
    marked, fork = map(int, parent.stdout.readline().split())
    assert psutil.pid_exists(marked)
    parent.kill()
    parent.stdout.close()
    parent.wait()
    try:
        end = time.monotonic() + 10
        while (tmp_path / "file").exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert not (tmp_path / "file").exists()
        assert not psutil.pid_exists(marked) or (
            psutil.Process(marked).status() == psutil.STATUS_ZOMBIE
        )
    finally:
        os.kill(fork, signal.SIGKILL)


def test_a_node_that_runs_is_not_started_again(files, tmp_path):
    network = Network(tmp_path, files)
    network.processes["node1"] = SimpleNamespace(poll=lambda: None)
    with pytest.raises(NetworkError, match="node1 runs already"):
        network.start_node(1)


def test_what_flower_says_can_be_read_under_jupyter(tmp_path, monkeypatch):
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    assert "\x1b" not in flower.call(tmp_path, "config", "list")


def test_the_configuration_is_toml_that_holds_the_job(job, tmp_path):
    odd = replace(job, words=(*job.words, 'a"b', "c\\d", "\u2028", "\x7f", "😀"))
    write_app(tmp_path / "app", odd, tmp_path / "results", 3, runs.Terms(60), "run7")
    project = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text("utf-8"))
    config = project["tool"]["flwr"]["app"]["config"]
    assert Job.from_json(config["job"]) == odd
    assert config["nodes"] == 3
    assert (config["timeout"], config["wait"], config["least"]) == (60.0, runs.WAIT, 3)
    assert config["run"] == "run7"
    assert config["simulated"] == "[]"
    for path in (tmp_path / "app" / "fedlab_app").glob("*.py"):
        compile(path.read_text("utf-8"), path.name, "exec")


# A network's folder, keys and ports


def test_a_network_listens_on_loopback_unless_told(tmp_path):
    with pytest.raises(ValueError, match=r"host: got '0\.0\.0\.0', expected .* can run code here"):
        Network(tmp_path, [], host="0.0.0.0")
    assert Network(tmp_path, [], host="0.0.0.0", exposed=True).host == "0.0.0.0"
    with pytest.raises(ValueError, match=r"files: got .* no double quote, which"):
        Network(tmp_path, ['a"b.csv'])


def test_a_busy_port_and_a_folder_in_use_are_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(NetworkError, match=f"port {port} is in use"),
            Network(tmp_path / "a", [], port=port),
        ):
            pass
    assert not (tmp_path / "a").exists()  # nothing was written


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_folder_in_use_is_told_and_one_that_was_is_taken_over(tmp_path):
    claiming = "import sys, time; sys.path.insert(0, sys.argv[1]); import processes;"
    claiming += (
        "from pathlib import Path; processes.claim(Path(sys.argv[2])); print(); time.sleep(60)"
    )
    mark, way = tmp_path / NODES, str(Path(processes.__file__).parent)
    other = subprocess.Popen(
        [sys.executable, "-c", claiming, way, str(mark)], stdout=subprocess.PIPE
    )
    other.stdout.readline()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    written = []
    network = Network(tmp_path, [], write=lambda: written.append(1))
    try:
        with pytest.raises(NetworkError, match=f"is used by process {other.pid}"):
            network.__enter__()
        with pytest.raises(NetworkError, match=f"is used by process {other.pid}"):
            processes.claim(mark)
    finally:
        other.kill()
        other.stdout.close()
        other.wait()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not written
    network.check()
    processes.claim(mark, {"nodes": 3})
    assert processes.owner(mark) == os.getpid()
    assert json.loads(mark.read_text())["nodes"] == 3


@pytest.mark.parametrize("name", ["config.toml", "keys/server.key"])
def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path, name):
    (tmp_path / "keys").mkdir()
    (tmp_path / name).write_text("mine")
    with pytest.raises(NetworkError, match=r"holds keys or a config\.toml that no network"):
        Network(tmp_path, [], secure=True).__enter__()
    assert (tmp_path / name).read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"keys", "config.toml"}


def test_an_app_is_written_into_a_new_folder_only(job, tmp_path, monkeypatch):
    with pytest.raises(NetworkError, match="no network is up there"):
        runs.submit(tmp_path, job)
    (tmp_path / "app").mkdir()
    with pytest.raises(FileExistsError):
        write_app(tmp_path / "app", job, tmp_path / "results", 1, runs.Terms(), "run1")


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")
def test_keys_are_their_owners_and_are_not_replaced_unasked(tmp_path):
    key, secrets = tmp_path / "client.1", (tmp_path / "server.key", tmp_path / "client.1")
    for again in (False, True):
        make_certificates(tmp_path, again=again)
        make_key(key, again=again)
        for path in secrets:
            assert path.stat().st_mode & 0o777 == 0o600
            path.chmod(0o644)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for make, where in ((make_key, key), (make_certificates, tmp_path)):
        with pytest.raises(FileExistsError):
            make(where)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (tmp_path / "client.1.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    context = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    (authority,) = context.get_ca_certs()
    assert authority["subject"][0][0] == ("commonName", "fedlab_helpers authority")


@pytest.mark.parametrize(
    ("strategy", "codec"),
    [("fedavg", "dense"), ("fedprox", "dense"), ("scaffold", "dense"), ("fedadam", "dense"),
     ("krum", "dense"), ("fedavg", "signs")],
)  # fmt: skip
def test_a_task_of_ones_own_ends_in_the_weights_of_the_simulation(tmp_path, bits, strategy, codec):
    """Series and a number, a model with running statistics: over nodes and in one process alike."""
    paths = []
    for client in range(7 if strategy == "krum" else 3):
        rng = torch.Generator().manual_seed(client)
        lines = torch.rand(12, 5, generator=rng).tolist()
        paths.append(tmp_path / f"{client}.txt")
        paths[-1].write_text("\n".join(",".join(map(str, line)) for line in lines))
    plan = Plan(3, None if strategy == "krum" else 2, LocalConfig(batch_size=4, lr=0.02), seed=5)
    job = Job((), plan, strategy=strategy, codec=codec, task="own_task:LEVEL")
    (tmp_path / "out").mkdir()
    require_agreement(job, paths, tmp_path / "out", bits)
    assert {*runs.metrics(tmp_path / "out")[0]} == {"loss", "rmse", "mae", "examples"}


@pytest.mark.parametrize(
    ("strategy", "codec", "secure"),
    [("fedadam", "touched_rows", None), ("scaffold", "dense", None), ("fedavg", "signs", None),
     ("fedavg", "dense", SecureSum(32, 2.0, most_examples=400))],
)  # fmt: skip
def test_people_with_a_sensor_each_end_in_the_weights_of_the_simulation(
    tmp_path, bits, strategy, codec, secure
):
    """A file of glucose for each node; the simulation has them all in one table."""
    tables = []
    for client in range(3):
        rng = numpy.random.default_rng(client)
        times = pandas.date_range("2014-02-03", periods=600, freq="5min")
        readings = 120 + 30 * numpy.sin(numpy.arange(600) / (20 + client)) + rng.normal(0, 3, 600)
        tables.append(pandas.DataFrame({"id": f"p{client}", "time": times, "gl": readings}))
        tables[-1].to_csv(tmp_path / f"{client}.csv")
    pandas.concat(tables).to_csv(tmp_path / "all.csv")
    paths, plan = sorted(tmp_path.glob("?.csv")), Plan(2, 2, LocalConfig(batch_size=8), seed=5)
    task = "fedlab_helpers.tasks:glucose"
    job = Job((), plan, strategy=strategy, codec=codec, task=task, secure=secure)
    assert Job.from_json(job.to_json()) == job
    (tmp_path / "out").mkdir()
    records = run_job(job, paths, tmp_path / "out")
    model, data = glucose.new_model(), [own.train for own in glucose.glucose(tmp_path / "all.csv")]
    how = {"secure": secure} if secure else {"codec": job.new_codec()}
    history = run(model, data, job.new_strategy(), plan, **how)
    assert bits(runs.weights(tmp_path / "out")) == bits(of_model(model))
    assert bits(of_model(model)) != bits(of_model(glucose.new_model()))
    assert [record.client_losses.keys() for record in records] == [
        record.client_losses.keys() for record in history
    ]
    assert not any(record.left_out for record in records)
    assert {*runs.metrics(tmp_path / "out")[0]} == {"loss", "rmse", "mae", "examples"}
