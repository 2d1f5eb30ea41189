"""Programs of Flower's that run and will start nothing any more."""

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

from fedlab_helpers.network import machines
from fedlab_helpers.network.machines import Network, Programs
from fedlab_helpers.network.processes import until

SLEEP = "import time; time.sleep(60)"
WITH_EXECUTOR = f"""
import subprocess, sys
subprocess.run([sys.executable, '-c', {SLEEP!r}, 'flower-superexec'])
"""


@pytest.fixture
def programs(tmp_path):
    """Programs in which one can be started under any name."""
    made = Programs(tmp_path, "mark.json")
    made.logs.mkdir()

    def start(name: str, script: str = SLEEP, said: str = "", age: float = 0.0):
        log = made.logs / f"{name}.log"
        log.write_text(said)
        os.utime(log, (time.time() - age,) * 2)
        process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        made.processes[name] = process
        return process

    made.begin = start
    yield made
    for process in made.processes.values():
        machines.end_all(machines.family(process.pid))
        process.wait()


def test_without_its_executor_it_is_deaf_after_a_while(programs, monkeypatch):
    programs.begin("node0")
    assert not programs.deaf("node0")  # it is just starting
    monkeypatch.setattr(machines, "DEAF", 0.0)
    assert programs.deaf("node0")
    programs.begin("node1", WITH_EXECUTOR)
    assert until(lambda: not programs.deaf("node1"), 10)
    (executor,) = machines.family(programs.processes["node1"].pid)[1:]
    executor.kill()
    assert until(lambda: programs.deaf("node1") or programs.processes["node1"].poll() == 0, 10)


def test_it_is_deaf_where_it_gave_up_and_did_not_end(programs):
    last = "\x1b[91mERROR\x1b[0m: _ssl.c:989: The handshake operation timed out\n"
    programs.begin("node0", said=f"begins\n{last}", age=60)
    programs.begin("node1", said=f"begins\n{last}", age=1)
    programs.begin("node2", said=f"{last}Sent successfully\n", age=60)
    programs.begin("node3", "", said=last, age=60).wait()
    assert [programs.deaf(f"node{n}") for n in range(5)] == [True, False, False, False, False]


def test_only_who_is_deaf_is_started_again(programs, tmp_path, monkeypatch):
    """And the SuperLink's executor, once."""
    network = Network.__new__(Network)
    network.__dict__ |= programs.__dict__
    network.files, network.secure, network.host, network.port = [1, 2], False, "127.0.0.1", 9
    programs.begin("superlink")
    programs.begin("node0")
    programs.begin("node1")
    started, deaf = [], {"superlink", "node1"}
    monkeypatch.setattr(network, "deaf", deaf.__contains__)
    monkeypatch.setattr(network, "start_node", started.append)

    def spawn(name, command):
        started.append((name, command[-1]))
        return programs.begin(name)

    monkeypatch.setattr(network, "_spawn", spawn)
    link = programs.processes["superlink"]
    assert network.revive() == [1]
    assert started == [("superexec", str(link.pid)), 1]
    assert programs.processes["node1"].poll() is not None
    assert programs.processes["node0"].poll() is None
    deaf.discard("node1")
    assert network.revive() == []
    assert len(started) == 2


@pytest.mark.skipif(os.name != "posix", reason="only POSIX stops processes")
def test_while_the_superlink_is_stopped_nobody_is_started(programs, monkeypatch):
    network = Network.__new__(Network)
    network.__dict__ |= programs.__dict__
    network.files = [1]
    link = programs.begin("superlink")
    programs.begin("node0")
    monkeypatch.setattr(network, "deaf", lambda name: True)
    machines.psutil.Process(link.pid).suspend()
    assert until(lambda: machines.psutil.Process(link.pid).status() == "stopped", 5)
    assert network.revive() == []
    assert programs.processes["node0"].poll() is None
