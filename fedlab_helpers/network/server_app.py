"""Flower's ServerApp: the loop of `core.rounds`, with nodes for clients."""

import json
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlab_helpers.core import state, wire
from fedlab_helpers.core.rounds import rounds_with, shared_weights
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.nodes import Nodes
from fedlab_helpers.network.runs import FAILURE, METRICS, RECORDS, WEIGHTS

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write records and weights into its folder as they come."""
    torch.set_num_threads(1)
    config = context.run_config
    folder = Path(config["folder"])
    try:
        job = Job.from_json(config["job"])
        nodes = Nodes(grid, job, int(config["nodes"]), float(config["timeout"]))
        run_job(nodes, job, folder)
    except Exception as error:
        _write(folder / FAILURE, f"{type(error).__name__}: {error}".encode())
        raise


def run_job(nodes: Nodes, job: Job, folder: Path) -> None:
    """Run the rounds of a job once all nodes are there, and write what comes of them."""
    model, strategy, records = job.new_model(), job.new_strategy(), []
    if job.secure:
        job.secure.require_fit(strategy, *shared_weights(model, nodes.shared))
    nodes.wait()
    for record in rounds_with(nodes, model, strategy, job.plan):
        records.append(record.to_json())
        _write(folder / RECORDS, json.dumps(records).encode())
    weights = state.of_model(model)
    _write(folder / WEIGHTS, wire.dense().encode(weights))
    _write(folder / METRICS, json.dumps(nodes.evaluate(weights)).encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file at once, so that whoever looks sees the old one or the new one."""
    path.with_suffix(".tmp").write_bytes(content)
    path.with_suffix(".tmp").replace(path)
