"""Flower's ServerApp: the loop of `core.rounds`, with nodes for clients."""

import json
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import save

from fedlab_helpers.core import state
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.rounds import rounds_with, shared_weights
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.nodes import Nodes
from fedlab_helpers.network.runs import FAILURE, METRICS, RECORDS, ROUNDS, WEIGHTS, write_file

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write records and weights into its folder as they come."""
    torch.set_num_threads(1)
    config = context.run_config
    folder = Path(config["folder"])
    try:
        job = Job.from_json(config["job"])
        nodes = Nodes(grid, job, int(config["nodes"]), float(config["timeout"]) or None)
        test = job.examples(config["test"]) if config["test"] else None
        nodes.wait(float(config["wait"]), int(config["least"]))
        run_job(nodes, job, folder, test)
    except Exception as error:
        write_file(folder / FAILURE, f"{type(error).__name__}: {error}".encode())
        raise


def run_job(nodes: Nodes, job: Job, folder: Path, test: Examples | None = None) -> None:
    """Run the rounds of a job, or those that its folder does not hold yet, and write what comes of
    them: after each round all that is needed to go on from it."""
    model, strategy, records, path = job.new_model(), job.new_strategy(), [], folder / RECORDS
    how = {"downlink": job.new_downlink(), "checkpoint": folder / ROUNDS}
    held = len(json.loads(path.read_text("utf-8"))) if path.exists() else 0
    if job.secure:
        job.secure.require_fit(strategy, *shared_weights(model, nodes.shared))
    for record in rounds_with(nodes, model, strategy, job.plan, test, **how):
        records.append(record.to_json())
        if len(records) >= held:  # those before come from the checkpoint again
            write_file(folder / WEIGHTS, save(state.of_model(model)))
            write_file(path, json.dumps(records).encode())
    write_file(folder / METRICS, json.dumps(nodes.evaluate(state.of_model(model))).encode())
