"""Runs of a network that is up: written as an app, handed in, and watched as rounds end."""

import contextlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlab_helpers.core import wire
from fedlab_helpers.core.compute import worker_count as cpus
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.state import State
from fedlab_helpers.network import flower
from fedlab_helpers.network.flower import LINK, NODES, NetworkError
from fedlab_helpers.network.job import Job

RECORDS, WEIGHTS, METRICS = "records.json", "weights.safetensors", "metrics.json"
FAILURE, RUN = "failure.txt", "run.txt"
PATIENCE = 30.0  # seconds without news after which Flower is asked whether the run is alive
_APP = """
[project]
name = "fedlab-app"
version = "1.0.0"
description = "Federated training of a recurrent network"
license = "MIT"
dependencies = []

[tool.flwr.app]
publisher = "course"

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
"""


def project(server: str, client: str, config: Mapping[str, str | float]) -> str:
    """Return the pyproject.toml of an app: where its two sides are, and a run's configuration."""
    lines = [f"{name} = {flower.toml(value)}" for name, value in config.items()]
    return _APP.format(server=server, client=client) + "\n".join(lines) + "\n"


def write_app(
    folder: Path, job: Job, results: Path, nodes: int, timeout: float, simulated: Sequence[str] = ()
) -> None:
    """Write where the apps are, and the run's configuration, into a new folder.

    Args:
        folder: made here. Raises FileExistsError where it is there already.
        job: what server and nodes agree on; it travels in the configuration.
        results: where the server writes.
        nodes: how many clients there are.
        timeout: seconds in which a node must answer.
        simulated: the files of simulated nodes; real ones know their own.
    """
    package = folder / "fedlab_app"
    folder.mkdir(parents=True)
    package.mkdir()
    config = {"job": job.to_json(), "folder": str(results), "nodes": nodes}
    config |= {"timeout": float(timeout), "simulated": json.dumps(list(simulated))}
    text = project("fedlab_app.server:app", "fedlab_app.client:app", config)
    (folder / "pyproject.toml").write_text(text, "utf-8")
    (package / "__init__.py").touch()
    for side in ("client", "server"):
        source = f"from fedlab_helpers.network import {side}_app\n\napp = {side}_app.app\n"
        (package / f"{side}.py").write_text(source, "utf-8")


def submit(folder: str | Path, job: Job, timeout: float = 60.0) -> Path:
    """Hand a job to the network of a folder; return the folder in which its results will lie.

    Args:
        folder: of a `machines.Network`. Raises NetworkError: there is none, or it says no.
        job: the run.
        timeout: seconds in which a node must answer; who does not is left out of the round.
    """
    folder = Path(folder).resolve()
    if not (folder / NODES).exists():
        raise NetworkError(f"{folder}: no network was started there")
    network = json.loads((folder / NODES).read_text("utf-8"))
    nodes, simulated = network["nodes"], network["simulated"]
    pairs = ((folder / f"app{n}", folder / f"results{n}") for n in itertools.count(1))
    app, results = next(pair for pair in pairs if not any(path.exists() for path in pair))
    results.mkdir()
    write_app(app, job, results, nodes, timeout, simulated)
    more = engine(nodes) if simulated else []
    answer = json.loads(flower.call(folder, "run", str(app), LINK, *more))
    (results / RUN).write_text(answer["run-id"], "utf-8")
    return results


def engine(clients: int) -> list[str]:
    """Return how `flwr run` is told to play so many virtual clients, one on each CPU at a time."""
    cores = f"client-resources-num-cpus=1 init-args-num-cpus={cpus()}"
    return ["--federation-config", f"num-supernodes={clients} {cores}"]


def status(results: Path) -> dict[str, Any]:
    """Return what Flower knows of a submitted job: "status", "network-traffic" and more. Raises
    NetworkError: the network is not there any more."""
    run = (results / RUN).read_text("utf-8")
    every = json.loads(flower.call(results.parent, "ls", LINK))["runs"]
    return next(each for each in every if each["run-id"] == run)


def records(results: Path, timeout: float = 300.0) -> Iterator[RoundRecord]:
    """Yield the record of each round of a submitted job as it comes, until the run ends.

    Args:
        results: what `submit` returned.
        timeout: seconds until it must have ended. Raises NetworkError: it has not, or has failed.
    """
    seen, over, news, end = 0, "", time.monotonic(), time.monotonic() + timeout
    while True:
        finished = (results / METRICS).exists()
        with contextlib.suppress(FileNotFoundError):
            new = json.loads((results / RECORDS).read_text("utf-8"))[seen:]
            yield from map(RoundRecord.from_json, new)
            if new:
                seen, news = seen + len(new), time.monotonic()
        if finished:
            return
        if (results / FAILURE).exists():
            raise NetworkError((results / FAILURE).read_text("utf-8"))
        if over or time.monotonic() > end:
            why = f"Flower says {over!r}" if over else f"no end after {timeout:.0f} s"
            raise NetworkError(f"{results}: {seen} rounds, and {why}")
        if time.monotonic() > news + PATIENCE:
            state, news = status(results)["status"], time.monotonic()
            over = state if state.startswith("finished") else ""  # it may just have written why
        time.sleep(0.1)


def weights(results: Path) -> State:
    """Return the global weights of a run that has ended."""
    return wire.dense().decode((results / WEIGHTS).read_bytes())


def metrics(results: Path) -> dict[int, dict[str, float]]:
    """Return, for each client that answered at the end, the metrics on its own reviews."""
    read = json.loads((results / METRICS).read_text("utf-8"))
    return {int(client): each for client, each in read.items()}
