"""Real processes: a SuperLink and SuperNodes on this machine. Each test takes about a minute."""

import importlib.util
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import psutil
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from test_nodes import files, job, simulated  # noqa: F401

from fedlab_helpers.core import wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.messages import Reply
from fedlab_helpers.core.rounds import rounds_with
from fedlab_helpers.core.state import of_model
from fedlab_helpers.network import Node, runs
from fedlab_helpers.network.keys import make_key
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.processes import until, wait_for
from fedlab_helpers.network.runs import write_app
from fedlab_helpers.privacy.secure import SecureSum

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform == "win32", reason="ends process groups"),
]


def left_over(port) -> list[str]:
    """Return the command lines of Flower's processes that know of one of ten ports, and Ray's that
    are not younger than this one."""
    found, here = [], psutil.Process().create_time()
    for process in psutil.process_iter():
        try:
            line, young = " ".join(process.cmdline()), process.create_time() > here
        except psutil.Error:
            continue
        knows = any(str(port + more) in line for more in range(10))
        ray = young and (line.startswith("ray::") or "/ray/core/" in line)
        if ray or (knows and ("flwr-" in line or "flower-" in line)):
            found.append(line)
    return found


def test_a_secured_network_ends_in_the_weights_of_the_simulation(job, files, tmp_path, bits):  # noqa: F811
    """SCAFFOLD, whose clients keep what they know between rounds; strangers are turned away."""
    job = replace(job, strategy="scaffold", codec="dense")
    stranger = tmp_path / "stranger"
    make_key(stranger)
    with Network(tmp_path / "net", files, secure=True, port=18310) as network:
        network.start_node(0, stranger, name="unknown", port=18319)
        way = network.processes["node0"].args
        plain = [way[0], "--insecure", "--max-retries", "3", *way[way.index("--superlink") : -1]]
        network._spawn("plain", [*plain, "18318"])
        blind = [*way[:-1], "18317"]
        where = blind.index("--root-certificates")
        del blind[where : where + 2]  # it cannot tell who the server is
        network._spawn("blind", blind)
        results = runs.submit(network.folder, job)
        records = list(runs.records(results))
        assert network.processes["unknown"].wait(30) != 0
        wait_for("[code: 2004]", network.logs / "unknown.log")
        assert network.processes["plain"].wait(60) != 0
        wait_for("Exit Code: 305", network.logs / "plain.log")
        assert network.processes["blind"].wait(60) != 0
        wait_for("CERTIFICATE_VERIFY_FAILED", network.logs / "blind.log")
        said = wait_for(
            "No SuperNode found with the given public key", network.logs / "superlink.log"
        )
        assert said.count("Activated node_id") == 3  # nobody but those with a registered key
    assert not left_over(18310)
    expected, history = simulated(job, files)
    assert bits(runs.weights(results)) == bits(expected)
    assert [record.bytes_up for record in records] == [record.bytes_up for record in history]
    assert not any(record.left_out for record in records)


WAITING = """
import time
from pathlib import Path

from flwr.clientapp import ClientApp

from fedlab_helpers.network import client_app


class Waiting(ClientApp):
    def __call__(self, message, context):
        asked = message.content.get("request", {})
        if (asked.get("round"), asked.get("client"), asked.get("phase")) == (2, 2, "mask"):
            Path(r"{there}").touch()
            time.sleep(300)
        return client_app.app(message, context)


app = Waiting()
"""


class Without2(Clients):
    """Clients of whom number 2 does not answer in round 2."""

    def replies(self, number, cohort, received, states):
        for reply in super().replies(number, cohort, received, states):
            lost = (number, reply.client) == (2, 2)
            yield Reply(reply.client, failure="killed") if lost else reply


def test_a_secure_sum_survives_its_nodes(job, files, tmp_path, bits, monkeypatch):  # noqa: F811
    """It has shared its secrets, and is killed before it masks: the others' shares remove what they
    added for it. In the next round it is back."""
    there = tmp_path / "there"

    def with_waiting(folder, *more):
        write_app(folder, *more)
        (folder / "fedlab_app" / "client.py").write_text(WAITING.replace("{there}", str(there)))

    monkeypatch.setattr(runs, "write_app", with_waiting)
    secure = SecureSum(16, 2.0, most_examples=40, share=0.6)
    plan = replace(job.plan, rounds=3, clients_per_round=None)
    job = replace(job, plan=plan, codec="dense", secure=secure)
    with Network(tmp_path / "net", files, secure=True, port=18390) as network:
        results = runs.submit(network.folder, job, timeout=45)
        records = []
        for record in runs.records(results):
            records.append(record)
            if record.round == 1:
                assert until(there.exists, 120, 0.1)
                network.kill(2)
                network.start_node(2)
    assert not left_over(18390)
    assert [list(record.client_losses) for record in records] == [[0, 1, 2], [0, 1], [0, 1, 2]]
    assert list(records[1].left_out) == [2]
    model, strategy = job.new_model(), job.new_strategy()
    data = [Node.owning(job, client, path).reviews for client, path in enumerate(files)]
    clients = Without2(model, data, strategy, plan, wire.dense())
    list(rounds_with(secure.over(clients), model, strategy, plan))
    assert bits(runs.weights(results)) == bits(of_model(model))


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Flower's simulation engine needs Ray: pip install 'fedlab-helpers[simulation]'",
)
def test_virtual_clients_end_in_the_weights_of_the_simulation(job, files, tmp_path, bits):  # noqa: F811
    job = replace(job, plan=replace(job.plan, rounds=2))
    with Network(tmp_path / "net", files, simulated=True, port=18370) as network:
        results = runs.submit(network.folder, job)
        records = list(runs.records(results))
    assert not left_over(18370)
    assert not any(record.left_out for record in records)
    assert bits(runs.weights(results)) == bits(simulated(job, files)[0])


def test_the_command_starts_a_network_and_ends_it(tmp_path):
    """On Ctrl-C; and what it started ends even if nobody can end it any more."""
    folder = tmp_path / "net"
    command = [sys.executable, "-m", "fedlab_helpers.network", "--folder", str(folder)]
    command += ["up", "--nodes", "2", "--port", "18350"]
    for way in (signal.SIGINT, signal.SIGKILL):
        with (tmp_path / f"out{way}").open("w") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                # As in a terminal; who runs tests in the background has it ignored.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        try:
            said = wait_for("Ctrl-C ends", tmp_path / f"out{way}")
            assert str(folder / "logs") in said
            assert len(left_over(18350)) >= 3
            process.send_signal(way)
            assert process.wait(30) == (0 if way == signal.SIGINT else -way)
        finally:
            process.terminate()
            process.wait(30)
        end = time.monotonic() + (20 if way == signal.SIGKILL else 0)
        while (folder / "nodes.json").exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert not left_over(18350)
        assert not (folder / "nodes.json").exists()
