"""Runs of a network that is up: handed in, watched, stopped, and gone on with."""

import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load_file

from fedlab_helpers.core.compute import worker_count as cpus
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.state import State
from fedlab_helpers.network import flower
from fedlab_helpers.network.flower import LINK, NetworkError
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.machines import about
from fedlab_helpers.network.processes import until

RECORDS, WEIGHTS, METRICS = "records.json", "weights.safetensors", "metrics.json"
FAILURE, RUN, JOB, ROUNDS, APP = "failure.txt", "run.json", "job.json", "rounds", "app"
LOCK = "runs.lock"  # held while a run is handed in
UNKNOWN = "not known to this SuperLink"  # of a run before the network was started again
TRIES = 3  # how often Flower may leave that unanswered
PATIENCE = 10.0  # seconds without news after which Flower is asked whether the run is alive
WAIT = 300.0  # seconds that a run waits for all nodes before it begins
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


@dataclass(frozen=True)
class Terms:
    """How a run deals with its nodes.

    Args:
        timeout: seconds in which a node must answer, or it is left out of the round; None: found
            from how long nodes take (`deadline.Deadline`).
        wait: seconds that are waited for all nodes before the first round.
        least: with how many it begins after that; None: with all only.
        test: a file of examples at the server, on which each round's model is evaluated; None: it
            has none.
        client: the module whose `app` nodes run.
    """

    timeout: float | None = None
    wait: float = WAIT
    least: int | None = None
    test: str | None = None
    client: str = "fedlab_helpers.network.client_app"


def project(server: str, client: str, config: Mapping[str, str | float]) -> str:
    """Return the pyproject.toml of an app: where its two sides are, and a run's configuration."""
    lines = [f"{name} = {flower.toml(value)}" for name, value in config.items()]
    return _APP.format(server=server, client=client) + "\n".join(lines) + "\n"


def write_app(
    folder: Path,
    job: Job,
    results: Path,
    nodes: int,
    terms: Terms,
    run: str,
    simulated: Sequence[str] = (),
) -> None:
    """Write where the apps are, and the run's configuration, into a new folder.

    Args:
        folder: made here. Raises FileExistsError where it is there already.
        job: what server and nodes agree on; it travels in the configuration.
        results: where the server writes.
        nodes: how many clients there are.
        terms: how the run deals with them.
        run: the name under which clients keep what they must know in the next round.
        simulated: the files of simulated nodes; real ones know their own.
    """
    package = folder / "fedlab_app"
    folder.mkdir(parents=True)
    package.mkdir()
    config = {"job": job.to_json(), "folder": str(results), "nodes": nodes, "run": run}
    config |= {"timeout": float(terms.timeout or 0), "wait": float(terms.wait)}
    config |= {"least": terms.least or nodes, "test": terms.test or ""}
    config |= {"simulated": json.dumps(list(simulated))}
    text = project("fedlab_app.server:app", "fedlab_app.client:app", config)
    (folder / "pyproject.toml").write_text(text, "utf-8")
    (package / "__init__.py").touch()
    for side, module in (("client", terms.client), ("server", "fedlab_helpers.network.server_app")):
        (package / f"{side}.py").write_text(f"from {module} import app\n\n__all__ = ['app']\n")


def submit(
    folder: str | Path,
    job: Job,
    timeout: float | None = None,
    *,
    wait: float = WAIT,
    least: int | None = None,
    test: str | Path | None = None,
    client: str = Terms.client,
) -> Path:
    """Hand a job to the network of a folder; return the folder in which its results will lie.

    Args:
        folder: of a `machines.Network`.
        job: the run.
        timeout, wait, least, test, client: as in `Terms`.

    Raises:
        ValueError: the network has too few clients for the job, or that has no model.
        NetworkError: there is no network, a run is going on there, or Flower says no.
    """
    folder = Path(folder).resolve()
    job.require_clients(about(folder)["nodes"])
    job.new_model()  # its task can be imported, and its sizes are possible
    terms = Terms(timeout, wait, least, str(Path(test).resolve()) if test else None, client)
    with FileLock(folder / LOCK):
        _require_idle(folder)
        paths = (folder / f"results{number}" for number in itertools.count(1))
        results = next(path for path in paths if not path.exists())
        results.mkdir()
        _start(results, job, terms, uuid.uuid4().hex)
    return results


def resume(results: str | Path, rounds: int | None = None) -> Path:
    """Go on with a run that broke off, from its last finished round, on the network that is up in
    its folder; return the folder of its results.

    It ends in the weights in which it would have ended, bit for bit, where its nodes have the
    folders that they had.

    Args:
        results: what `submit` returned.
        rounds: of the whole run; None: as was planned.

    Raises NetworkError: as `submit` does, or that run has ended, or never begun.
    """
    results = Path(results).resolve()
    if not (results / RUN).exists():
        raise NetworkError(f"{results}: no run was handed in there")
    nodes = about(results.parent)["nodes"]
    with FileLock(results.parent / LOCK):
        _require_idle(results.parent)
        job = Job.from_json((results / JOB).read_text("utf-8"))
        if rounds is not None:
            job = replace(job, plan=replace(job.plan, rounds=rounds))
        done, known = len(_records(results)), json.loads((results / RUN).read_text("utf-8"))
        if known["nodes"] != nodes:
            came = f"was begun with {known['nodes']} clients, the network has {nodes}"
            raise NetworkError(f"{results}: {came}; expected as many")
        ended = done == job.plan.rounds and (results / METRICS).exists()
        if ended or done > job.plan.rounds:
            raise NetworkError(f"{results}: has ended, after {done} rounds; expected more --rounds")
        _start(results, job, Terms(**known["terms"]), known["run"])
    return results


def _start(results: Path, job: Job, terms: Terms, run: str) -> None:
    """Write the app of a run, and hand it to Flower; where that fails, all is as before."""
    network = about(results.parent)
    nodes, simulated = network["nodes"], network["simulated"]
    shutil.rmtree(results / APP, ignore_errors=True)
    write_app(results / APP, job, results, nodes, terms, run, simulated)
    more = engine(nodes) if simulated else []
    old = [results / name for name in (FAILURE, METRICS) if (results / name).exists()]
    for path in old:  # the server may write new ones at once
        path.replace(path.with_suffix(".old"))
    try:
        answer = json.loads(flower.call(results.parent, "run", str(results / APP), LINK, *more))
    except BaseException:
        for path in old:
            path.with_suffix(".old").replace(path)
        raise
    known = {"run": run, "flower": answer["run-id"], "nodes": nodes, "terms": vars(terms)}
    write_file(results / JOB, job.to_json().encode())
    write_file(results / RUN, json.dumps(known).encode())


def engine(clients: int) -> list[str]:
    """Return how `flwr run` is told to play so many virtual clients, one on each CPU at a time."""
    cores = f"client-resources-num-cpus=1 init-args-num-cpus={cpus()}"
    return ["--federation-config", f"num-supernodes={clients} {cores}"]


def _require_idle(folder: Path) -> None:
    for results in going_on(folder).values():
        name = f"{results.name}: this run" if results else "a run"
        told = f" ({described(results)})" if results else ""
        raise NetworkError(f"{name} is going on{told}; wait, or end it with `stop`")


def going_on(folder: Path) -> dict[str, Path | None]:
    """Return Flower's name of each run that has not ended, and the folder of its results, where
    one knows of it: whoever handed it in may have been interrupted."""
    names = [run["run-id"] for run in _flower_runs(folder) if goes_on(run["status"])]
    known = {_flower_id(results): results for results in _handed_in(folder)}
    return {name: known.get(name) for name in names}


def goes_on(state: str) -> bool:
    """Return whether a run of which Flower says this has not ended."""
    return not state.startswith("finished") and state != UNKNOWN


def described(results: Path) -> str:
    """Return strategy and rounds of a run, in words."""
    job = Job.from_json((results / JOB).read_text("utf-8"))
    return f"{job.strategy}, {len(_records(results))} of {job.plan.rounds} rounds done"


def listed(folder: str | Path) -> dict[Path, str]:
    """Return the runs of a folder, oldest first, and what Flower says of each: "running",
    "finished:completed", …; `UNKNOWN` where its SuperLink was started after them."""
    folder = Path(folder).resolve()
    known = {run["run-id"]: run["status"] for run in _flower_runs(folder)}
    return {path: known.get(_flower_id(path), UNKNOWN) for path in _handed_in(folder)}


def _handed_in(folder: Path) -> list[Path]:
    paths = sorted(folder.glob(f"results*/{RUN}"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in paths]


def _flower_runs(folder: Path) -> list[dict[str, Any]]:
    return json.loads(flower.call(folder, "ls", LINK))["runs"]


def _flower_id(results: Path) -> str:
    return json.loads((results / RUN).read_text("utf-8"))["flower"]


def _records(results: Path) -> list[dict[str, Any]]:
    path = results / RECORDS
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def status(results: Path) -> dict[str, Any]:
    """Return what Flower knows of a submitted job: "status", "network-traffic" and more. Raises
    NetworkError: the network is not there any more, or another is."""
    run, every = _flower_id(results), _flower_runs(results.parent)
    if not (mine := [each for each in every if each["run-id"] == run]):
        raise NetworkError(f"{results}: the SuperLink was started after this run")
    return mine[0]


def stop(folder: Path, name: str, timeout: float = 60.0) -> None:
    """Ask Flower to stop a run, by Flower's name of it, and wait until it says that it has. Raises
    NetworkError: it does not in so many seconds, or the run was over."""
    flower.call(folder, "stop", name, LINK)
    if not until(lambda: name not in going_on(folder), timeout, 1.0):
        raise NetworkError(f"{folder}: run {name} has not stopped after {timeout:.0f} s")


def records(results: Path, timeout: float | None = None) -> Iterator[RoundRecord]:
    """Yield the record of each round of a submitted job as it comes, until the run ends.

    Args:
        results: what `submit` returned.
        timeout: seconds until it must have ended; None: as long as Flower says that it goes on.

    Raises NetworkError: the run has not ended in time, has failed, or was stopped.
    """
    seen, over, news, began, unanswered = 0, "", time.monotonic(), time.monotonic(), 0
    while True:
        finished = (results / METRICS).exists()
        new = _records(results)[seen:]
        yield from map(RoundRecord.from_json, new)
        if new:
            seen, news = seen + len(new), time.monotonic()
        if finished:
            return
        if (results / FAILURE).exists():
            raise NetworkError((results / FAILURE).read_text("utf-8"))
        if over:
            raise NetworkError(f"{results}: {seen} rounds are done, and {over}")
        if timeout is not None and time.monotonic() > began + timeout:
            over = f"no end after {timeout:.0f} s"
            continue
        if time.monotonic() > news + PATIENCE:
            news = time.monotonic()
            try:
                state = status(results)["status"]
                over = f"Flower says {state!r}" if state.startswith("finished") else ""
                unanswered = 0
            except NetworkError as error:  # the machine may be busy, or have stopped for a while
                unanswered += 1
                over = str(error) if unanswered == TRIES else ""
        time.sleep(0.1)


def weights(results: Path) -> State:
    """Return the global weights after the last round of a run; it need not have ended."""
    return load_file(results / WEIGHTS)


def metrics(results: Path) -> dict[int, dict[str, float]]:
    """Return, for each client that answered at the end, the metrics on its own examples."""
    read = json.loads((results / METRICS).read_text("utf-8"))
    return {int(client): each for client, each in read.items()}


def write_file(path: Path, content: bytes) -> None:
    """Write a file at once, so that whoever looks sees the old one or the new one."""
    with path.with_suffix(".tmp").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".tmp").replace(path)
