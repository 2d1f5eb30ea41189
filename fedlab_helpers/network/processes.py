"""Processes and what they started, found and ended."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

MARK = "FEDLAB_NETWORK"  # the variable by which the processes of a network are known


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started, directly or not; none where it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(processes: Sequence[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def marked(token: str) -> list[psutil.Process]:
    """Return the processes that were started with this mark, by whomever."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == token:
                found.append(process)
    return found


def wait_for(words: str, log: Path, times: int = 1, timeout: float = 60.0) -> str:
    """Wait until a process has written some words so many times; return all that it wrote.

    Raises:
        TimeoutError: it has not, after so many seconds.
    """
    end = time.monotonic() + timeout
    while True:
        said = log.read_text("utf-8", "replace") if log.exists() else ""
        if said.count(words) >= times:
            return said
        if time.monotonic() > end:
            raise TimeoutError(f"{log}: expected {words!r} {times} times, got: {said[-1500:]}")
        time.sleep(0.1)


def guard(token: str, file: Path) -> subprocess.Popen:
    """Start a process that, once this one is gone, however it went, ends all with this mark and
    removes a file. To be let go, it wants its standard input closed."""
    return subprocess.Popen(
        [sys.executable, "-I", __file__, token, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    sys.stdin.read()  # until nobody holds the other end
    end_all(marked(sys.argv[1]))
    Path(sys.argv[2]).unlink(missing_ok=True)
