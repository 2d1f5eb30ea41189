"""A network on this machine: `python -m fedlab_helpers network up`; in another terminal, `run`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.network import runs
from fedlab_helpers.network.job import CODECS, Job
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.node import write_reviews
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.tasks.reviews.task import DEALS, load_task


def up(chosen: argparse.Namespace) -> None:
    """Start a SuperLink and SuperNodes, and wait; all are ended when this is."""
    task = load_task()
    parts = task.deal(chosen.partition, chosen.nodes, numpy_rng(0, "partition"))
    owned = ([task.train_reviews[place] for place in part] for part in parts)
    own = chosen.folder / "own" / f"{chosen.partition}-{chosen.nodes}"
    files = write_reviews(own, owned, task.classes)
    try:
        with Network(chosen.folder, files, secure=chosen.secure, port=chosen.port) as network:
            kind = "TLS, nodes with keys" if chosen.secure else "not secured"
            print(f"SuperLink on {network.host}:{chosen.port} ({kind}), {chosen.nodes} nodes")
            print(f"logs: {network.logs}\nCtrl-C ends all of them.", flush=True)
            network.wait()
    except KeyboardInterrupt:
        print("ended", flush=True)


def run(chosen: argparse.Namespace) -> None:
    """Hand a job to a network that is up, and print its rounds as they come."""
    task = load_task()
    plan = Plan(chosen.rounds, local=LocalConfig(lr=chosen.lr))
    own = {"strategy": chosen.strategy, "options": dict(chosen.parameter), "codec": chosen.codec}
    if bits := chosen.secure_sum:
        own["secure"] = SecureSum(bits, most_examples=chosen.most_examples)
    job = Job(task.vocab.words[2:], plan, classes=task.classes, **own)
    results = runs.submit(chosen.folder, job, chosen.timeout)
    for record in runs.records(results, chosen.timeout * (chosen.rounds + 2) + 60):
        print(
            f"round {record.round}: loss {record.train_loss:.3f},"
            f" {record.bytes_up:,} bytes up, {record.seconds:.1f} s",
            *(f"· client {client}: {why}" for client, why in record.left_out.items()),
            flush=True,
        )
    print(f"weights, records and metrics: {results}")


def parameter(text: str) -> tuple[str, float]:
    """Return the name and the number of "name=number"."""
    name, _, number = text.partition("=")
    return name, float(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fedlab_helpers network", description="A network on this machine."
    )
    parser.add_argument("--folder", type=Path, default=Path("network"), help="of logs and results")
    commands = parser.add_subparsers(required=True)
    start = commands.add_parser("up", help="start a SuperLink and SuperNodes, and wait")
    start.set_defaults(command=up)
    start.add_argument("--nodes", type=int, default=3)
    start.add_argument("--partition", choices=sorted(DEALS), default="iid")
    start.add_argument("--secure", action="store_true", help="TLS, and nodes with keys")
    start.add_argument("--port", type=int, default=8000)
    submit = commands.add_parser("run", help="hand a job to it, and print the rounds as they come")
    submit.set_defaults(command=run)
    submit.add_argument("--rounds", type=int, default=3)
    submit.add_argument("--strategy", choices=sorted(STRATEGIES), default="fedavg")
    more = "of the strategy, such as mu=0.01; again for each"
    option = {"type": parameter, "action": "append", "default": [], "metavar": "NAME=NUMBER"}
    submit.add_argument("--parameter", **option, help=more)
    submit.add_argument("--codec", choices=sorted(CODECS), default="touched_rows")
    hidden = "bits of a ring: the server sees sums only; needs --codec dense"
    submit.add_argument("--secure-sum", type=int, choices=(8, 16, 32), help=hidden)
    most = "a bound on the examples of one node, for secure sums"
    submit.add_argument("--most-examples", type=float, default=10_000, help=most)
    submit.add_argument("--lr", type=float, default=5e-3)
    submit.add_argument("--timeout", type=float, default=60.0, help="seconds for an answer")
    chosen = parser.parse_args(arguments)
    try:
        chosen.command(chosen)
    except (RuntimeError, ValueError, FileExistsError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
