"""Federated training over Flower: the same numbers as in one process, and only bytes between."""

import csv
import json
import tomllib
from dataclasses import asdict, replace

import pytest

flwr = pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from flwr.app import Context, RecordDict  # noqa: E402
from local_grid import LocalGrid  # noqa: E402

from fedlab_helpers import federated  # noqa: E402
from fedlab_helpers.corpus import load_reviews  # noqa: E402
from fedlab_helpers.network import Job, Node, client_app, runs, server_app  # noqa: E402
from fedlab_helpers.network.app_folder import write_app  # noqa: E402
from fedlab_helpers.network.flower import NetworkError  # noqa: E402
from fedlab_helpers.plan import Plan  # noqa: E402
from fedlab_helpers.state import of_model  # noqa: E402
from fedlab_helpers.text import Vocabulary, tokenize_all  # noqa: E402
from fedlab_helpers.training import LocalConfig, evaluate  # noqa: E402

MODEL = {"embedding_dim": 6, "hidden_size": 5, "pooling": "mean", "dropout": 0.2, "seed": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of 30 reviews, as three machines would own them."""
    folder, every = tmp_path_factory.mktemp("own"), load_reviews()
    paths = []
    for client in range(3):
        mine = every[client::600][:15] + every[-1 - client :: -600][:15]
        paths.append(folder / f"reviews{client}.csv")
        with paths[-1].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((r.text, r.label) for r in mine)])
    return paths


@pytest.fixture(scope="module")
def job(files):
    texts = [review.text for path in files for review in load_reviews(path)]
    words = Vocabulary.build(tokenize_all(texts), min_count=2).words[2:]
    plan = Plan(3, 2, LocalConfig(batch_size=8, lr=0.05), seed=5)
    return Job(words, plan, model=MODEL)


def play(job, files, folder, app=client_app.app, timeout=5.0, change=lambda grid: None):
    """Run the ServerApp over nodes in this process; return the records of its rounds."""
    config = {"job": job.to_json(), "folder": str(folder), "nodes": 3, "timeout": timeout}
    config["simulated"] = "[]"
    nodes = [{"client": client, "reviews": str(path)} for client, path in enumerate(files)]
    grid = LocalGrid(app, nodes, config)
    change(grid)
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config)
    server_app.main(grid, context)
    return list(runs.records(folder))


def simulated(job, files):
    model = job.new_model()
    data = [Node.owning(job, client, path).reviews for client, path in enumerate(files)]
    history = federated.run(model, data, job.new_strategy(), job.plan, codec=job.new_codec())
    return of_model(model), history


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
    records, weights = play(job, files, tmp_path), runs.weights(tmp_path)
    expected, history = simulated(job, files)
    assert bits(weights) == bits(expected)
    assert bits(weights) != bits(of_model(job.new_model()))
    for record, other in zip(records, history, strict=True):
        assert replace(record, seconds=other.seconds) == other
    metrics = runs.metrics(tmp_path)
    model = job.new_model()
    model.load_state_dict(weights)
    for client, path in enumerate(files):
        own = evaluate(model, Node.owning(job, client, path).reviews)
        assert metrics[client] == pytest.approx(asdict(own))


@pytest.fixture
def everyone(job):
    """A job in which all three train, in each of two rounds."""
    return replace(job, plan=replace(job.plan, rounds=2, clients_per_round=None))


def left_out(records):
    return [sorted(record.left_out) for record in records]


def test_a_node_with_another_vocabulary_refuses_by_name(everyone, files, tmp_path):
    def change(grid):
        other = replace(everyone, words=everyone.words[:-7])
        grid.contexts[2].run_config = {"job": other.to_json(), "simulated": "[]"}

    records = play(everyone, files, tmp_path, change=change)
    assert left_out(records) == [[1], [1]]
    size = len(everyone.vocab)
    assert f"embedding.weight is ({size}, 6), expected ({size - 7}, 6)" in records[0].left_out[1]
    assert f"vocabulary has {size - 7} words" in records[0].left_out[1]


def test_a_node_with_another_model_refuses_by_name(everyone, files, tmp_path):
    def change(grid):
        for number, options in ((1, {"hidden_size": 4}), (3, {"cell": "gru"})):
            other = replace(everyone, model={**everyone.model, **options})
            grid.contexts[number].run_config = {"job": other.to_json(), "simulated": "[]"}

    records = play(everyone, files, tmp_path, change=change)
    assert left_out(records) == [[0, 2], [0, 2]]
    assert "recurrent.weight_ih_l0 is (20, 6), expected (16, 6)" in records[0].left_out[0]
    assert "recurrent.weight_ih_l0 is (20, 6), expected (15, 6)" in records[0].left_out[2]


def test_a_node_whose_reviews_are_gone_costs_only_itself(everyone, files, tmp_path):
    def change(grid):
        grid.contexts[3].node_config["reviews"] = str(tmp_path / "gone.csv")

    records = play(everyone, files, tmp_path, change=change)
    assert left_out(records) == [[2], [2]]
    assert "its code failed" in records[0].left_out[2]
    assert "gone.csv" in records[0].left_out[2]
    assert set(runs.metrics(tmp_path)) == {0, 1}


def test_a_damaged_payload_costs_only_its_sender(everyone, files, tmp_path):
    def damage(message, context):
        answer = client_app.app(message, context)
        if "reply" in answer.content and context.node_config["client"] == 1:
            body = answer.content["reply"]
            body["payload"] = body["payload"][:-40] + bytes(40)
        return answer

    job = replace(everyone, codec="ternary")
    records = play(job, files, tmp_path, app=damage)
    assert left_out(records) == [[1], [1]]
    assert "WireError" in records[0].left_out[1]


def test_who_does_not_answer_in_time_is_left_out(everyone, files, tmp_path):
    def silent(message, context):
        if message.metadata.message_type == "train" and context.node_config["client"] == 0:
            return None
        return client_app.app(message, context)

    records = play(everyone, files, tmp_path, app=silent, timeout=1.0)
    assert [record.left_out for record in records] == [{0: "no answer in time"}] * 2


def test_who_goes_is_missed_and_who_comes_back_is_asked_again(job, files, tmp_path):
    job = replace(job, plan=replace(job.plan, rounds=3, clients_per_round=None))

    def change(grid):
        online, rounds = grid.get_node_ids, iter((3, 3, 2, 3, 3))

        def there():
            count = next(rounds, 3)
            if count == 2:
                grid.contexts[7] = grid.contexts.pop(2)  # comes back under another id
                return [1, 3]
            return online()

        grid.get_node_ids = there

    records = play(job, files, tmp_path, change=change)
    assert [record.left_out for record in records] == [{}, {1: "no node is there"}, {}]


def test_a_run_goes_on_from_where_its_server_was_stopped(job, files, tmp_path, bits):
    short = replace(job, plan=replace(job.plan, rounds=2))
    play(short, files, tmp_path)
    (tmp_path / runs.METRICS).unlink()
    records = play(job, files, tmp_path)
    assert [record.round for record in records] == [1, 2, 3]
    assert bits(runs.weights(tmp_path)) == bits(simulated(job, files)[0])


def test_why_a_run_failed_is_told(job, files, tmp_path):
    def silent(message, context):
        return (
            None if message.metadata.message_type == "train" else client_app.app(message, context)
        )

    with pytest.raises(Exception, match="every client was left out"):
        play(job, files, tmp_path, app=silent, timeout=0.3)
    with pytest.raises(NetworkError, match="NoUpdateLeft: round 1: every client was left out"):
        list(runs.records(tmp_path))


def test_nodes_that_do_not_come_are_waited_for_no_longer_than_asked(job, files, tmp_path):
    with pytest.raises(TimeoutError, match=r"clients \[0, 1\] came, expected 3"):
        play(job, files, tmp_path, timeout=0.3, change=lambda grid: grid.contexts.pop(3))


def test_a_virtual_client_is_the_one_of_its_number(everyone, files, tmp_path):
    def change(grid):
        for number, context in grid.contexts.items():
            context.node_config = {"partition-id": number - 1, "num-partitions": 3}
            context.run_config["simulated"] = json.dumps(list(map(str, files)))

    records = play(everyone, files, tmp_path, change=change)
    _, history = simulated(everyone, files)
    assert [record.client_losses for record in records] == [r.client_losses for r in history]


# A job


def test_a_job_travels_as_text(job):
    again = Job.from_json(replace(job, strategy="fedprox", options={"mu": 0.5}).to_json())
    assert again == replace(job, strategy="fedprox", options={"mu": 0.5})
    assert again.vocab.words == job.vocab.words
    for text in ("", "[]", "{}", '{"plan": {}}', job.to_json().replace("epochs", "eras")):
        with pytest.raises(ValueError, match="job: not the JSON of one"):
            Job.from_json(text)


def test_names_that_are_none_are_refused(job):
    with pytest.raises(ValueError, match="strategy: got 'best', expected one of"):
        replace(job, strategy="best")
    with pytest.raises(ValueError, match="codec: got 'zip', expected one of"):
        replace(job, codec="zip")


def test_the_configuration_is_toml_that_holds_the_job(job, tmp_path):
    odd = replace(job, words=(*job.words, 'a"b', "c\\d", "\u2028"))
    write_app(tmp_path / "app", odd, tmp_path / "results", 3, 60)
    project = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text("utf-8"))
    config = project["tool"]["flwr"]["app"]["config"]
    assert Job.from_json(config["job"]) == odd
    assert config["nodes"] == 3
    assert config["timeout"] == 60.0
    assert config["simulated"] == "[]"
    for path in (tmp_path / "app" / "fedlab_app").glob("*.py"):
        compile(path.read_text("utf-8"), path.name, "exec")


def test_a_folder_without_a_network_is_told(job, tmp_path):
    with pytest.raises(NetworkError, match="no network was started there"):
        runs.submit(tmp_path, job)
