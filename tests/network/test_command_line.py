"""The commands of a network, without one: what they ask for, and what they refuse."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.network import commands, flower, machines, runs
from fedlab_helpers.network.__main__ import main
from fedlab_helpers.network.flower import NODES, NetworkError
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.machines import Member, Network, registered_key
from fedlab_helpers.privacy import Clip, GaussianNoise
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import LOCAL
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.tasks.reviews.task import load_task

JOB = Job(("很好", "很差"), Plan(4), "scaffold", codec="dense")


class Flower:
    """Answers Flower's commands, and knows which runs there are."""

    begins = "running"

    def __init__(self):
        self.status, self.calls = {}, []

    def __call__(self, folder, *arguments):
        self.calls.append(arguments[0])
        if arguments[0] == "run":
            self.status[str(len(self.status) + 1)] = self.begins
            return json.dumps({"run-id": str(len(self.status))})
        if arguments[0] == "stop":
            self.status[arguments[1]] = "finished:stopped"
            return "{}"
        if arguments[:2] == ("supernode", "list"):
            return json.dumps({"nodes": [{"status": "online"}, {"status": "offline"}]})
        runs_ = [{"run-id": name, "status": state} for name, state in self.status.items()]
        return json.dumps({"runs": runs_})


@pytest.fixture
def engine(monkeypatch):
    fake = Flower()
    monkeypatch.setattr(flower, "call", fake)
    return fake


@pytest.fixture
def folder(tmp_path):
    """A folder in which a network of three seems to be up."""
    known = {"nodes": 3, "simulated": [], "files": ["a.csv", "b.csv"], "token": "no token"}
    known |= {"server": "127.0.0.1:8000", "secure": False}
    (tmp_path / NODES).write_text(json.dumps(known))
    return tmp_path


def record(number):
    return RoundRecord(number, (0, 1), 9, 3, {0: 0.5, 1: 0.7}, {}, 10, 20, 1.0, {"accuracy": 0.5})


def write_records(results, count):
    written = json.dumps([record(number).to_json() for number in range(1, count + 1)])
    (results / runs.RECORDS).write_text(written)


def test_one_run_at_a_time_and_one_that_broke_off_goes_on(folder, engine):
    results = runs.submit(folder, JOB, least=2, test=folder / "test.csv")
    assert results == folder / "results1"
    write_records(results, 2)
    for hand_in in (lambda: runs.submit(folder, JOB), lambda: runs.resume(results)):
        with pytest.raises(
            NetworkError, match=r"results1: this run is going on \(scaffold, 2 of 4"
        ):
            hand_in()
    assert not (folder / "results2").exists()
    runs.stop(folder, "1")
    assert list(runs.listed(folder).values()) == ["finished:stopped"]
    with pytest.raises(NetworkError, match="2 rounds are done, and Flower says 'finished:stopped'"):
        watch(results)
    first = json.loads((results / runs.RUN).read_text())
    (results / runs.FAILURE).write_text("it was this")
    runs.resume(results, rounds=6)
    again = json.loads((results / runs.RUN).read_text())
    assert (again["run"], again["terms"]) == (first["run"], first["terms"])  # its clients' name
    assert again["terms"]["least"] == 2
    assert again["flower"] != first["flower"]
    assert not (results / runs.FAILURE).exists()
    text = (results / runs.APP / "pyproject.toml").read_text("utf-8")
    assert f'run = "{first["run"]}"' in text
    assert Job.from_json((results / runs.JOB).read_text()) == replace(JOB, plan=Plan(6))
    engine.status["2"] = "finished:completed"
    write_records(results, 6)
    (results / runs.METRICS).write_text("{}")
    with pytest.raises(NetworkError, match="has ended, after 6 rounds"):
        runs.resume(results)
    with pytest.raises(ValueError, match="rounds: got 0"):
        runs.resume(results, rounds=0)
    runs.resume(results, rounds=7)
    with pytest.raises(NetworkError, match="no run was handed in there"):
        runs.resume(folder / "results9")


def test_a_run_that_nobody_knows_of_is_in_the_way_and_can_be_stopped(folder, engine, capsys):
    """Whoever handed it in was interrupted before its name was written down."""
    engine.status["9"] = "running"
    with pytest.raises(NetworkError, match="a run is going on; wait, or end it with `stop`"):
        runs.submit(folder, JOB)
    assert main(["stop", "--folder", str(folder)]) == 0
    assert "stopped: 9" in capsys.readouterr().out
    runs.submit(folder, JOB)


def test_what_cannot_be_resumed_is_left_as_it_was(folder, engine, monkeypatch):
    results = runs.submit(folder, JOB)
    runs.stop(folder, "1")
    write_records(results, 4)
    (results / runs.METRICS).write_text("{}")
    (results / runs.FAILURE).write_text("why")
    before = {path: path.read_bytes() for path in results.glob("*.*")}
    with pytest.raises(NetworkError, match="has ended, after 4 rounds"):
        runs.resume(results, rounds=3)

    def says_no(where, *arguments):
        if arguments[0] == "run":
            raise NetworkError("flwr run: no")
        return engine(where, *arguments)

    monkeypatch.setattr(flower, "call", says_no)
    with pytest.raises(NetworkError, match="flwr run: no"):
        runs.resume(results, rounds=9)
    known = json.loads((folder / NODES).read_text())
    (folder / NODES).write_text(json.dumps(known | {"nodes": 4}))
    with pytest.raises(NetworkError, match="was begun with 3 clients, the network has 4"):
        runs.resume(results, rounds=9)
    assert {path: path.read_bytes() for path in results.glob("*.*")} == before


def watch(results):
    return list(runs.records(results))


def test_a_run_of_which_nobody_has_news_is_not_waited_for(folder, engine, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    results = runs.submit(folder, JOB)
    engine.status.clear()  # the SuperLink was started again
    with pytest.raises(NetworkError, match=r"0 rounds are done, and .* started after this run"):
        watch(results)  # asked three times
    assert runs.listed(folder) == {results: runs.UNKNOWN}
    runs.submit(folder, JOB)  # it is in nobody's way


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resume", "--strategy", "fedavg", "--lr", "1", "--seed", "2"], "['lr', 'seed']"),
        (["--port", "9"], "its network listens on 127.0.0.1:8000, not on port 9"),
        (["--parameter", "nu=1"], "nu"),
        (["--secure-sum", "16"], "codec: got 'touched_rows', expected 'dense'"),
        (["--privacy", "clop=1"], "transforms: got 'clop'"),
        (["--privacy", "clip=-1"], "max_norm: got -1.0"),
        (["--clients-per-round", "4"], "clients_per_round"),
        (["--rounds", "0"], "rounds: got 0"),
        (["--strategy", "krum", "--codec", "dense"], "for Krum(f=2"),
        (["--task", "nowhere:TASK"], "task: got 'nowhere:TASK'"),
        (["--resume"], "resume: got"),
        (["--resume", "3"], "no run was handed in there"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_handed_in(
    folder, engine, capsys, words, told, monkeypatch
):
    monkeypatch.setattr(engine, "begins", "finished:failed")
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    assert main(["--folder", str(folder), "run", *words]) == 1
    assert told in capsys.readouterr().err
    assert "run" not in engine.calls
    assert not list(folder.glob("results*"))


def test_without_a_network_each_command_says_so(tmp_path, capsys):
    for words in (["run"], ["stop"], ["status"], ["node", "--client", "1"]):
        assert main([*words, "--folder", str(tmp_path)]) == 1
        assert "no network is up there; start one with `up`" in capsys.readouterr().err


corpus = functools.cache(load_task)  # nothing changes it, and it takes a second or two


@pytest.fixture
def handed_in(folder, monkeypatch):
    """Run a command line; return the job that it asks for, and on what terms."""
    found = []

    def submit(*asked, **terms):
        found.append((asked[1], terms))
        raise NetworkError("far enough")

    monkeypatch.setattr(runs, "submit", submit)
    monkeypatch.setattr(commands, "load_task", corpus)

    def ask(*words):
        assert main(["run", "--folder", str(folder), *words]) == 1
        return found[-1]

    return ask


def test_every_strategy_can_be_asked_for(handed_in, capsys):
    for name, entry in STRATEGIES.items():
        if entry.needs["least_cohort"] > 3:
            continue
        job, _ = handed_in("--strategy", name)
        assert job.new_strategy() == Job((), job.plan, name).new_strategy()
        assert ("is a rule of thumb" in capsys.readouterr().out) == entry.for_sgd
    handed_in("--strategy", "scaffold", "--optimizer", "sgd")
    assert "rule of thumb" not in capsys.readouterr().out


def test_options_end_up_in_the_job(handed_in):
    job, terms = handed_in()
    assert (job.strategy, job.plan.rounds, job.plan.clients_per_round) == ("fedavg", 3, 3)
    assert job.plan.local == LOCAL["adam"]
    assert Path(terms["test"]).name == "reviews0.csv"
    assert (terms["wait"], terms["least"]) == (runs.WAIT, None)
    more = "--rounds 7 --strategy fedprox --parameter mu=0.01 --optimizer sgd --lr 0.3"
    more += " --local-epochs 2 --clients-per-round 2 --seed 5 --codec dense --privacy clip=2"
    more += " --privacy noise=0.1 --secure-sum 16 --most-examples 70 --wait 9 --at-least 2"
    job, terms = handed_in(*more.split())
    local = replace(LOCAL["sgd"], lr=0.3, epochs=2)
    assert replace(job.plan, local=local) == job.plan
    assert (job.plan.rounds, job.plan.clients_per_round, job.plan.seed) == (7, 2, 5)
    assert (job.strategy, job.options["mu"], job.codec) == ("fedprox", 0.01, "dense")
    assert job.secure == SecureSum(16, most_examples=70)
    assert job.new_transforms() == (Clip(2.0), GaussianNoise(0.1))
    assert Job.from_json(job.to_json()) == job
    assert terms == {"wait": 9.0, "least": 2, "test": terms["test"]}
    job, terms = handed_in("--task", "fedlab_helpers.tasks:glucose", "--parameter", "server_rate=2")
    assert (job.task, job.options["server_rate"], terms["test"]) == (
        "fedlab_helpers.tasks:glucose", 2.0, None,
    )  # fmt: skip


def test_status_names_who_is_missing(folder, engine, capsys):
    runs.submit(folder, JOB)
    assert main(["status", "--folder", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "SuperLink on 127.0.0.1:8000, 1 nodes are there" in said
    again = f"python -m fedlab_helpers network node --client 0 --folder {folder}"
    assert f"client 0: no node; start it: {again}" in said
    assert "client 2: elsewhere" in said
    assert "results1: scaffold, 0 of 4 rounds done, running" in said
    assert main(["stop", "--folder", str(folder)]) == 0
    assert "results1; to go on: " in capsys.readouterr().out
    assert main(["stop", "--folder", str(folder)]) == 0
    assert "no run is going on" in capsys.readouterr().out


def test_a_line_about_a_round_tells_what_is_measured():
    told = replace(record(2), left_out={1: "too late"}, told={"epsilon": 3.14159})
    assert commands._words(told) == (
        "round 2: loss 0.600 · accuracy 50.0% · epsilon 3.14 · 20 bytes up, 10 down · 1.0 s"
        " · without client 1 (too late)"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--client", "2"], "client: got 2, expected one of [0, 1], or --server and --reviews"),
        (["--server", "h:1"], "reviews: got None"),
        (["--server", "h:1", "--reviews", "own.csv"], "client: got None"),
        (["--server", "h", "--client", "0", "--reviews", "own.csv"], "server: got 'h'"),
        (["--server", "h:1", "--key", "k", "--reviews", "own.csv"], "key: got 'k'"),
        (["--server", "h:1", "--key", "client1", "--reviews", "own.csv"], "both, or none of them"),
        (["--server", "h:1", "--client", "0", "--reviews", "own.csv"], "own.csv: there is no"),
    ],
)
def test_a_node_that_cannot_be_started_says_why(folder, capsys, words, told):
    assert main(["node", "--folder", str(folder), *words]) == 1
    assert told in capsys.readouterr().err


def test_ports_and_counts_are_looked_at(tmp_path, capsys):
    for words, told in (
        (["--port", "99999"], "port: got 99999, expected an integer from 1 to"),
        (["--port", "0"], "port: got 0"),
        (["--elsewhere", "-1"], "elsewhere: got -1"),
        (["--nodes", "0"], "nodes: got 0"),
        (["--host", "0.0.0.0"], "whoever reaches the port can run code here"),
        (["--host", "0.0.0.0", "--exposed", "--secure"], "with `secure` the one that nodes use"),
        (["--host", "::1"], "host: got '::1', expected an IPv4 address"),
    ):
        assert main(["up", "--folder", str(tmp_path / "net"), *words]) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_a_public_half_that_was_made_elsewhere_is_registered(tmp_path, engine, monkeypatch):
    (tmp_path / "keys").mkdir()
    monkeypatch.chdir(tmp_path / "keys")
    assert main(["key", "--client", "2"]) == 0
    (tmp_path / "keys" / "client2").unlink()  # it stays with its owner
    before = (tmp_path / "keys" / "client2.pub").read_bytes()
    Network(tmp_path, [], secure=True, elsewhere=3).check()  # nothing is in its way
    registered_key(tmp_path, 2, again=False)
    assert (tmp_path / "keys" / "client2.pub").read_bytes() == before
    assert not (tmp_path / "keys" / "client2").exists()
    registered_key(tmp_path, 3, again=False)
    assert (tmp_path / "keys" / "client3").exists()


def test_a_node_is_told_what_its_file_was(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("text,label\n好,1\n")
    command = machines.supernode(1, own, tmp_path, "h:1", None, None, 9)
    assert f'sha256="{machines.digest(own)}"' in command[command.index("--node-config") + 1]
    with pytest.raises(ValueError, match="no double quote"):
        Member(1, own, "h:1", tmp_path / 'a"b')
    assert Network(tmp_path, [own], elsewhere=2).elsewhere == 2


ENDED = """\x1b[91mERROR \x1b[0m:     Exit Code: 305
Failed to initialize the connection to the SuperLink.
[Errno 111] Connection refused\x1b]0;title\x07
The SuperNode could not establish a connection to the SuperLink.

For more information, visit: <https://flower.ai/docs/framework/1.42/en/ref-exit-codes/305.html>
INFO:     Shutting down
"""


def test_why_a_node_ended_is_told_in_flowers_words():
    why = "Failed to initialize the connection to the SuperLink. [Errno 111] Connection refused"
    assert machines._why(f"INFO: begins\n{ENDED}").startswith(why)
    assert machines._why(ENDED).isprintable()
    assert machines._why("killed") == "it said no reason"
    assert "knows no such key" in machines._why(f"x {machines._REFUSED} {ENDED}")
    assert machines._why("Exit Code: 1\nNo space left\n\n") == "No space left"
