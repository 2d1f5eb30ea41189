"""The package's commands: python -m fedlab_helpers classify, fetch, network, new or studies."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "classify": "fedlab_helpers.shrinking.classify",
    "fetch": "fedlab_helpers.tasks.public_data",
    "network": "fedlab_helpers.network.__main__",
    "new": "fedlab_helpers.lessons.new",
    "studies": "fedlab_helpers.studies.__main__",
}
USAGE = """usage: python -m fedlab_helpers COMMAND …
  classify MODEL SENTENCE   what a model in an ONNX file makes of a sentence
  fetch [NAME …]            public data sets, downloaded once; --help lists them
  network up | run | …      a network of processes, and runs on it; --help lists all
  new FOLDER                a federation of your own: data, task, training, tests
  studies NAME …            measure the tables in data/results/; "search" looks for designs"""


def main(arguments: Sequence[str] | None = None) -> int | str | None:
    """Hand the command line over to the room that knows it; return what `sys.exit` takes."""
    name, *others = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(USAGE)
        return 0
    if name not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 2
    return import_module(COMMANDS[name]).main(others)


if __name__ == "__main__":
    sys.exit(main())
