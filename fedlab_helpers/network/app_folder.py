"""The folder that `flwr run` takes: two apps of one line, and what the run is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedlab_helpers.network.flower import toml
from fedlab_helpers.network.job import Job

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
    folder: Path,
    job: Job,
    results: Path,
    nodes: int,
    timeout: float,
    simulated: Sequence[str] = (),
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
