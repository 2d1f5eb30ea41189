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
from fedlab_helpers.network.flower import LINK, NODES, NetworkError, flower, toml
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
    lines = [f"{name} = {toml(value)}" for name, value in config.items()]
    return _APP.format(server=server, client=client) + "\n".join(lines) + "\n"


def write_app(
    folder: Path, job: Job, results: Path, nodes: int, timeout: float, simulated: Sequence[str] = ()
) -> None:
    """Write where the apps are, and the run's configuration.

    Args:
        folder: made if it is not there.
        job: what server and nodes agree on; it travels in the configuration.
        results: where the server writes.
        nodes: how many clients there are.
        timeout: seconds in which a node must answer.
        simulated: where the reviews of each client lie, if the nodes are simulated; real ones know
            for themselves.
    """
    package = folder / "fedlab_app"
    package.mkdir(parents=True, exist_ok=True)
    config = {
        "job": job.to_json(),
        "folder": str(results),
        "nodes": nodes,
        "timeout": float(timeout),
        "simulated": json.dumps(list(simulated)),
    }
    text = project("fedlab_app.server:app", "fedlab_app.client:app", config)
    (folder / "pyproject.toml").write_text(text, "utf-8")
    (package / "__init__.py").touch()
    for side in ("client", "server"):
        source = f"from fedlab_helpers.network import {side}_app\n\napp = {side}_app.app\n"
        (package / f"{side}.py").write_text(source, "utf-8")


def submit(folder: str | Path, job: Job, timeout: float = 60.0) -> Path:
    """Hand a job to the network of a folder; return the folder in which its results will lie.

    Args:
        folder: of a `machines.Network`.
        job: the run.
        timeout: seconds in which a node must answer; who does not is left out of the round.

    Raises:
        NetworkError: there is no network, or it does not take the job.
    """
    folder = Path(folder).resolve()
    if not (folder / NODES).exists():
        raise NetworkError(f"{folder}: no network was started there")
    network = json.loads((folder / NODES).read_text("utf-8"))
    nodes, simulated = network["nodes"], network["simulated"]
    number = next(n for n in itertools.count(1) if not (folder / f"results{n}").exists())
    app, results = (folder / f"{name}{number}" for name in ("app", "results"))
    results.mkdir()
    write_app(app, job, results, nodes, timeout, simulated)
    more = engine(nodes) if simulated else []
    answer = json.loads(flower(folder, "run", str(app), LINK, *more))
    (results / RUN).write_text(answer["run-id"], "utf-8")
    return results


def engine(clients: int) -> list[str]:
    """Return how `flwr run` is told to play so many virtual clients, one on each CPU at a time."""
    cores = f"client-resources-num-cpus=1 init-args-num-cpus={cpus()}"
    return ["--federation-config", f"num-supernodes={clients} {cores}"]


def status(results: Path) -> dict[str, Any]:
    """Return what Flower knows of a submitted job: "status", "network-traffic" and more.

    Raises:
        NetworkError: the network is not there any more.
    """
    run = (results / RUN).read_text("utf-8")
    every = json.loads(flower(results.parent, "ls", LINK))["runs"]
    return next(each for each in every if each["run-id"] == run)


def records(results: Path, timeout: float = 300.0) -> Iterator[RoundRecord]:
    """Yield the record of each round of a submitted job as it comes, until the run ends.

    Args:
        results: what `submit` returned.
        timeout: seconds until the run must have ended.

    Raises:
        NetworkError: it failed, or has not ended in time.
    """
    seen, news, end = 0, time.monotonic(), time.monotonic() + timeout
    while True:
        finished = (results / METRICS).exists()
        with contextlib.suppress(FileNotFoundError):
            all_of_them = json.loads((results / RECORDS).read_text("utf-8"))
            if len(all_of_them) > seen:
                yield from map(RoundRecord.from_json, all_of_them[seen:])
                seen, news = len(all_of_them), time.monotonic()
        if finished:
            return
        if (results / FAILURE).exists():
            raise NetworkError((results / FAILURE).read_text("utf-8"))
        if time.monotonic() > end:
            raise NetworkError(f"{results}: {seen} rounds, and no end after {timeout:.0f} s")
        if time.monotonic() > news + PATIENCE:
            state, news = status(results)["status"], time.monotonic()
            if state.startswith("finished") and not _told(results):
                raise NetworkError(f"{results}: {seen} rounds, and Flower says {state!r}")
        time.sleep(0.1)


def _told(results: Path) -> bool:
    """Return whether the server has written how the run ended, well or not."""
    return (results / METRICS).exists() or (results / FAILURE).exists()


def weights(results: Path) -> State:
    """Return the global weights of a run that has ended."""
    return wire.dense().decode((results / WEIGHTS).read_bytes())


def metrics(results: Path) -> dict[int, dict[str, float]]:
    """Return, for each client that answered at the end, the metrics on its own reviews."""
    read = json.loads((results / METRICS).read_text("utf-8"))
    return {int(client): each for client, each in read.items()}
