"""A network on this machine: `python -m fedlab_helpers network up`; in another terminal, `run`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fedlab_helpers.network import commands
from fedlab_helpers.tasks.reviews.task import DEALS


def parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    outer = argparse.ArgumentParser(
        prog=commands.PROGRAM, description="A network of processes, and runs on it."
    )
    folder = {"type": Path, "help": "of logs, results, keys and what clients keep: network"}
    outer.add_argument("--folder", default=Path("network"), **folder)
    every = outer.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], int], help: str) -> Callable:
        one = every.add_parser(command.__name__, help=help, description=command.__doc__)
        one.add_argument("--folder", default=argparse.SUPPRESS, **folder)
        one.set_defaults(command=command)
        return one

    up = add(commands.up, "start a SuperLink and SuperNodes, and wait").add_argument
    up("--nodes", type=int, default=3)
    up("--partition", choices=sorted(DEALS), default="iid", help="how the reviews are dealt")
    up("--own", type=Path, nargs="+", metavar="FILE", help="instead, the file of each node")
    up("--secure", action="store_true", help="TLS, and nodes with keys")
    up("--elsewhere", type=int, default=0, help="clients more, whose nodes start elsewhere")
    up("--host", default="127.0.0.1", help="the address where the SuperLink listens")
    up("--exposed", action="store_true", help="it may be one that other machines reach")
    up("--port", type=int, default=8000)
    key = add(commands.key, "make the key of a client that joins from this machine").add_argument
    key("--client", type=int, required=True)
    node = add(commands.node, "start the node of one client").add_argument
    node("--client", type=int, help="its number; a key's file has it in its name")
    node("--server", metavar="HOST:PORT", help="of a SuperLink elsewhere")
    node("--certificate", type=Path, help="of the authority that vouches for it")
    node("--key", type=Path, help="registered there")
    node("--reviews", type=Path, help="the examples that this client owns")
    commands.plan_options(add(commands.run, "hand in a job, and print its rounds as they come"))
    add(commands.stop, "stop the run that is going on")
    add(commands.status, "which nodes and runs there are")
    return outer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    chosen = parser().parse_args(arguments)
    try:
        return chosen.command(chosen)
    except (RuntimeError, ValueError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
