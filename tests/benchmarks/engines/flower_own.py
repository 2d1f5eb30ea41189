"""The workload in Flower's simulation engine as Flower's tutorials write it: whole models as
ArrayRecords, and its own FedAvg. Started by itself, it hands itself to Flower as the two apps."""

import functools
import itertools
import json
import time
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from workload import CASES, Workload, arguments, workload

from fedlab_helpers.network import flower
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.runs import engine, project

client_app, server_app = ClientApp(), ServerApp()


@functools.cache
def kept_workload(case: str, rounds: int) -> Workload:
    """Return the work of a case, loaded once in each process."""
    return workload(case, rounds)


def work_of(context: Context) -> Workload:
    return kept_workload(context.run_config["case"], context.run_config["rounds"])


@client_app.train()
def train(message: Message, context: Context) -> Message:
    work, client = work_of(context), int(context.node_config["partition-id"])
    model = work.new_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    work.train(model, message.content["config"]["server-round"], client)
    metrics = MetricRecord({"num-examples": len(work.clients[client])})
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    work, model = work_of(context), work_of(context).new_model()
    clients, cohort = CASES[context.run_config["case"]]
    ends = []

    def clock(number: int, arrays: ArrayRecord) -> None:
        ends.append(time.perf_counter())

    strategy = FedAvg(
        fraction_train=cohort / clients, fraction_evaluate=0.0, min_available_nodes=clients
    )
    first = ArrayRecord(model.state_dict())
    result = strategy.start(grid, first, num_rounds=work.plan.rounds, evaluate_fn=clock)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    seconds = [end - begin for begin, end in itertools.pairwise(ends)]
    work.report(Path(context.run_config["out"]), seconds, model)


def main() -> None:
    case, rounds, out = arguments()
    folder, clients = out.with_suffix(""), CASES[case][0]
    package = folder / "app" / "apps"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    names = (f"{side}_app = flower_own.{side}_app\n" for side in ("client", "server"))
    (package / "apps.py").write_text("import flower_own\n" + "".join(names))
    sides = (f"apps.apps:{side}_app" for side in ("server", "client"))
    config = {"case": case, "rounds": rounds, "out": str(out)}
    (package.parent / "pyproject.toml").write_text(project(*sides, config), "utf-8")
    with Network(folder, [], simulated=True, port=18500) as network:
        flower.call(network.folder, "run", str(package.parent), flower.LINK, *engine(clients))
        ended = False
        while not out.exists():
            assert not ended, (network.logs / "superlink.log").read_text()[-3000:]
            time.sleep(5)
            (run,) = json.loads(flower.call(network.folder, "ls", flower.LINK))["runs"]
            ended = run["status"].startswith("finished")


if __name__ == "__main__":
    main()
