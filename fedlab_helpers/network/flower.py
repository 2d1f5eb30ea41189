"""Flower's programs: where they are, in which environment they run, and what they answer."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from fedlab_helpers.network.processes import NetworkError

__all__ = ["LINK", "NODES", "NetworkError", "call", "environment", "require", "toml"]

LINK = "course"  # what the connection is called in Flower's configuration
NODES = "nodes.json"  # how many there are
PROGRAMS = Path(sys.executable).parent
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_COLORS = ("FORCE_COLOR", "CLICOLOR_FORCE")  # Jupyter asks for colours, also in JSON


def require(package: str) -> None:
    """Raise ModuleNotFoundError, saying what to do, where "flwr" or "ray" is not installed."""
    if importlib.util.find_spec(package) is None:
        extra = {"flwr": "network", "ray": "simulation"}[package]
        raise ModuleNotFoundError(f"needs {package}: pip install 'fedlab-helpers[{extra}]'")


def toml(value: str | float) -> str:
    """Return a text or number as TOML writes it: as JSON does, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a network's programs; what they keep lies in its folder."""
    mine = {name: value for name, value in os.environ.items() if name not in _COLORS}
    # Flower starts its own programs by their names.
    path = f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}"
    return mine | _QUIET | {"PATH": path, "FLWR_HOME": str(folder)}


def call(folder: Path, *arguments: str) -> str:
    """Run Flower's own command for the network of a folder; return what it prints. Raises
    NetworkError where it fails, in Flower's words."""
    require("flwr")
    command = [str(PROGRAMS / "flwr"), *arguments, "--format", "json"]
    done = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode or '"success": false' in done.stdout:
        raise NetworkError(f"flwr {arguments[0]}: {_said(done.stdout) or done.stderr}"[:2000])
    return done.stdout


def _said(output: str) -> str:
    """Return the last sentence of an error that Flower wrote as JSON."""
    try:
        said = json.loads(output)["error-message"].strip()
    except (ValueError, KeyError, AttributeError, TypeError):
        return output
    sentence = said.splitlines()[-1] if said else output
    if "SuperLink is unavailable" in sentence:
        return "no SuperLink answers: the network of this folder is not up"
    return sentence
