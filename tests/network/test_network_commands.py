"""The commands of a network, as somebody types them, and who disturbs it; each takes minutes."""

import json
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from test_nodes import files  # noqa: F401

from fedlab_helpers.core.state import of_model
from fedlab_helpers.network import runs
from fedlab_helpers.network.flower import NODES
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.processes import marked, until, wait_for
from fedlab_helpers.studies.chaos import disturbed_run, simulated

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform == "win32", reason="ends process groups"),
]
PROGRAM = [sys.executable, "-m", "fedlab_helpers", "network"]


class Shell:
    """A terminal in a folder, with its programs' output in files."""

    def __init__(self, folder, stack):
        self.folder, self.stack, self.count = folder, stack, 0

    def start(self, *words):
        """Start a command; return the process and the file of what it says."""
        self.count += 1
        out = self.folder / f"out{self.count}"
        with out.open("w") as file:
            process = subprocess.Popen(
                [*PROGRAM, *map(str, words)],
                cwd=self.folder,
                stdout=file,
                stderr=file,
                # As in a terminal; who runs tests in the background has it ignored.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        self.stack.callback(end, process)
        return process, out

    def __call__(self, *words):
        """Run a command; return its exit status, and what it said."""
        process, out = self.start(*words)
        return process.wait(600), out.read_text()


def end(process):
    """End a command, and so all it started."""
    process.terminate()
    process.wait(60)


@contextmanager
def shell(folder):
    with ExitStack() as stack:
        yield Shell(folder, stack)


def supernodes(client):
    """Return the SuperNodes of a client that run on this machine."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "flower-supernode" in line and f"client={client} reviews=" in line:
            found.append(process)
    return found


def links(port):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "flower-superlink" in " ".join(process.info["cmdline"] or [])
        and str(port) in process.info["cmdline"]
    ]


def contents(folder):
    names = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {path: path.read_bytes() for path in names if "apps" not in path.parts}


def done(folder):
    path = folder / runs.RECORDS
    return len(json.loads(path.read_text())) if path.exists() else 0


def test_readmes_commands_as_they_stand(tmp_path):
    """In a fresh folder, on the port that they take by themselves; the run learns."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    lines = [
        line for line in readme.splitlines() if line.startswith("python -m fedlab_helpers net")
    ]
    first, second = (line.partition("#")[0].split()[4:] for line in lines)
    with shell(tmp_path) as command:
        _, said = command.start(*first)
        wait_for("Ctrl-C ends all", said)
        status, words = command(*second)
        assert status == 0, words
    rounds = re.findall(r"round \d+: loss .* · accuracy ([\d.]+)%", words)
    assert len(rounds) == 3
    assert float(rounds[-1]) > 80
    assert "without client" not in words


def test_a_network_is_used_and_maltreated(files, tmp_path, bits):  # noqa: F811
    """A second `up` changes nothing; a second run is refused; Ctrl-C ends a run, and `--resume`
    goes on, also after the ServerApp, a node and the SuperLink were killed: to the same bits."""
    way = ["--own", *files, "--port", "18410", "--secure"]
    asked = ["--strategy", "scaffold", "--codec", "dense", "--optimizer", "sgd", "--lr", "0.5"]
    with shell(tmp_path) as command:
        up, said = command.start("up", *way)
        wait_for("Ctrl-C ends all", said)
        before = contents(tmp_path / "network")
        status, words = command("up", *way)
        assert (status, "is used by process" in words) == (1, True)
        status, words = command("--folder", "other", "up", *way)
        assert (status, "port 18410 is in use" in words) == (1, True)
        assert not (tmp_path / "other").exists()
        assert contents(tmp_path / "network") == before

        running, out = command.start("run", "--rounds", "5", *asked)
        results = tmp_path / "network" / "results1"
        wait_for("round 1: loss", out, timeout=300)
        assert "accuracy" in out.read_text()
        status, words = command("run")
        assert (status, "this run is going on (scaffold, " in words) == (1, True)
        assert not (tmp_path / "network" / "results2").exists()
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130
        assert "stopped, after round" in out.read_text()
        status, words = command("status")
        assert "finished:stopped" in words
        assert words.count("its node runs") == 3

        # Its server's app is killed, then one of its nodes.
        running, out = command.start("run", "--resume")
        reached = done(results)
        assert until(lambda: done(results) > reached or running.poll() is not None, 300)
        token = json.loads((tmp_path / "network" / NODES).read_text())["token"]
        (server,) = [p for p in marked(token) if p.name() == "flwr-serverapp"]
        server.kill()
        assert running.wait(300) == 1
        assert "to go on with it: python -m fedlab_helpers network run --resume" in out.read_text()
        (node,) = supernodes(1)
        node.kill()
        again = "start it again: python -m fedlab_helpers network node --client 1"
        wait_for(f"client 1: its node was killed; {again}", said)
        assert "client 1: no node; start it" in command("status")[1]
        _, joined = command.start("node", "--client", "1")
        wait_for("Ctrl-C ends it", joined)
        assert until(lambda: len(supernodes(1)) == 1, 30)
        status, words = command("node", "--client", "1")
        assert (status, "client 1: its node is running" in words) == (1, True)

        # The machine is switched off.
        (link,) = links(18410)
        link.kill()
        assert up.wait(60) == 1
        assert "the SuperLink ended, killed" in said.read_text()
        assert until(lambda: not any(supernodes(client) for client in range(3)), 60)
        status, words = command("run", "--resume")
        assert (status, "no network is up there" in words) == (1, True)
        up, said = command.start("up", *way)
        wait_for("Ctrl-C ends all", said)
        status, words = command("run", "--resume")
        assert status == 0, words
        assert "round 5: loss" in words
        status, words = command("run", "--resume")
        assert (status, "has ended, after 5 rounds" in words) == (1, True)
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    job = Job.from_json((results / runs.JOB).read_text())
    lost = {record.round: record.left_out.keys() for record in runs.records(results)}
    expected, _ = simulated(job, files, lost)
    assert bits(runs.weights(results)) == bits(expected) != bits(of_model(job.new_model()))
    assert not any(any(supernodes(client)) for client in range(3))
    assert not links(18410)


def test_a_node_joins_from_elsewhere(files, tmp_path):  # noqa: F811
    """By another address, with what it was given and nothing else; a run waits for it, or does not.
    It is let in again after it was killed, and its reviews may not change."""
    here, away = tmp_path / "here", tmp_path / "away"
    here.mkdir()
    away.mkdir()
    with shell(here) as command, shell(away) as there:
        _, said = command.start(
            "up", "--own", *files[:2], "--elsewhere", "1", "--secure",
            "--host", "127.0.0.2", "--port", "18430",
        )  # fmt: skip
        invitation = wait_for("Ctrl-C ends all", said)
        assert "client 2 is awaited" in invitation
        line = next(each for each in invitation.splitlines() if "client 2 is awaited" in each)
        words = line.partition("network ")[2].split()
        status, told = command("run", "--rounds", "1", "--wait", "15")
        assert status == 1
        assert "clients [0, 1] came, [2] did not in 15 s" in told
        status, told = command("run", "--rounds", "1", "--wait", "2", "--at-least", "2")
        assert status == 0, told
        assert "without client 2 (no node is there)" in told
        for name in ("ca.crt", "client2"):
            (away / name).write_bytes((here / "network" / "keys" / name).read_bytes())
        (away / "OWN.csv").write_bytes(files[2].read_bytes())
        words = [word.rpartition("/")[2] if "/" in word else word for word in words]
        assert words[0] == "node"
        _, joined = there.start(*words)
        wait_for("Ctrl-C ends it", joined)
        status, told = command("run", "--rounds", "2", "--wait", "120")
        assert status == 0, told
        assert told.count("without client") == 0
        assert "client 2, on its own 30 examples" in told
        kept = away / "network" / "kept"
        assert len(list(kept.iterdir())) == 1

        # Killed; it is let in once the SuperLink takes its last self for dead.
        (node,) = supernodes(2)
        node.kill()
        wait_for("the node ended", joined)
        assert until(lambda: len(supernodes(2)) == 1, 60)
        log = away / "network" / "logs" / "node.log"
        wait_for("SuperNode ID", log, times=2, timeout=180)
        (away / "OWN.csv").write_bytes(files[0].read_bytes())
        status, told = command("run", "--rounds", "1")
        assert status == 0, told
        assert "without client 2" in told
        assert "OWN.csv', expected the file as it was when this node came" in told


def test_who_hears_nothing_any_more_is_started_again(files, tmp_path):  # noqa: F811
    """A SuperExec that has ended is not started again by Flower; `up` does so."""
    with shell(tmp_path) as command:
        _, said = command.start("up", "--own", *files[:2], "--secure", "--port", "18490")
        wait_for("Ctrl-C ends all", said)
        (link,), (node,) = links(18490), supernodes(1)
        until(lambda: link.children() and node.children(), 60)
        for child in (*link.children(), *node.children()):
            child.kill()
        wait_for("client 1: its node heard nothing any more; started again", said, timeout=180)
        status, told = command("run", "--rounds", "1")
        assert status == 0, told
        assert "without client" not in told


def test_chaos(tmp_path):
    """One seeded run in which SuperLink and the server's app are killed, a node stands still, and a
    reply is damaged."""
    row = disturbed_run(18, "scaffold", 5, 4, 18470, tmp_path)
    assert row["resumed"] == 2
    assert row["rounds_done"] == 5
    assert row["weights_equal"]
    assert row["records_true"]
    assert row["left_over"] == 0
