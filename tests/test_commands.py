"""The package's commands: each is handed to its room, and none needs docstrings."""

import os
import subprocess
import sys

import pytest

from fedlab_helpers import __main__ as package

COMMANDS = {
    "": (2, "usage: python -m fedlab_helpers COMMAND"),
    "help": (2, "usage: python -m fedlab_helpers COMMAND"),
    "--help": (0, "usage: python -m fedlab_helpers COMMAND"),
    "classify": (1, "usage: python -m fedlab_helpers classify MODEL"),
    "network": (2, "usage: python -m fedlab_helpers network"),
    "new --help": (0, "usage: python -m fedlab_helpers new"),
    "new": (2, "usage: python -m fedlab_helpers new"),
    "studies --help": (0, "usage: python -m fedlab_helpers"),
    "studies nothing": (2, "invalid choice: 'nothing'"),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return a folder for what is compiled without docstrings, once for all lines."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_is_answered_also_without_docstrings(line, compiled):
    done = subprocess.run(
        [sys.executable, "-m", "fedlab_helpers", *line.split()],
        env=os.environ | {"PYTHONOPTIMIZE": "2", "PYTHONPYCACHEPREFIX": str(compiled)},
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    status, said = COMMANDS[line]
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stderr
    assert bool(done.stdout) is (status == 0)


def test_the_exit_status_is_that_of_the_room(monkeypatch):
    monkeypatch.setattr(package, "import_module", lambda name: sys.modules[__name__])
    assert package.main(["studies", "a", "b"]) == ["a", "b"]


def main(arguments):
    """Stand in for a room's command."""
    return arguments
