"""Processes and what they started, found and ended."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

MARK = "FEDLAB_NETWORK"  # the variable by which the processes of a network are known
READY = b"ready\n"


class NetworkError(RuntimeError):
    """Something of a network is not as it must be, or a process of it has ended by itself."""


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started, directly or not; none where it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(processes: Collection[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def marked(token: str, variable: str = MARK) -> set[psutil.Process]:
    """Return the processes that were started with this mark, by whomever, and what they started:
    some of Ray's are no children, and others hide their environment."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == token:
                found.update(family(process.pid))
    return found


def until(holds: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Look again and again whether something holds; return whether it did within so long."""
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(pause)
    return held


def wait_for(words: str, log: Path, times: int = 1, timeout: float = 60.0) -> str:
    """Wait until a process has written some words so many times; return all that it wrote. Raises
    TimeoutError: it has not, after so many seconds."""

    def said() -> str:
        return log.read_text("utf-8", "replace") if log.exists() else ""

    if not until(lambda: said().count(words) >= times, timeout):
        raise TimeoutError(f"{log}: expected {words!r} {times} times, got: {said()[-1500:]}")
    return said()


def end_marked(token: str, variable: str = MARK) -> None:
    """Kill all processes with this mark, and what they started, until none is found."""
    for _ in range(5):  # while one looks, more may be started
        if not (found := marked(token, variable)):
            return
        end_all(found)


def claim(mark: Path, about: dict[str, Any] | None = None, again: bool = False) -> None:
    """Write a file that says: the folder where it lies is used by this process.

    What a process left that is no more is taken over.

    Args:
        mark: the file.
        about: what else it is to say.
        again: it is this process's already.

    Raises NetworkError: another process uses the folder.
    """
    me = psutil.Process()
    mark.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(mark.with_suffix(".lock")):
        if not again and (other := owner(mark)):
            raise NetworkError(
                f"{mark.parent}: is used by process {other}, as {mark.name} there says"
            )
        aside = mark.with_suffix(".new")
        own = {"pid": me.pid, "born": me.create_time()}
        aside.write_text(json.dumps(own | (about or {})), "utf-8")
        aside.replace(mark)


def release(mark: Path, pid: int) -> None:
    """Remove a mark, if it is the one that this process wrote."""
    with FileLock(mark.with_suffix(".lock")), contextlib.suppress(OSError, ValueError, TypeError):
        if json.loads(mark.read_text("utf-8")).get("pid") == pid:
            mark.unlink()


def owner(mark: Path) -> int | None:
    """Return the process that wrote a mark, if it is still there."""
    try:
        found = json.loads(mark.read_text("utf-8"))
        alive = abs(psutil.Process(found["pid"]).create_time() - found["born"]) < 1
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return found["pid"] if alive else None


def guard(token: str, file: Path) -> subprocess.Popen:
    """Start a process that, once this one is gone, however it went, ends all with this mark and
    releases the file that it claimed. To be let go, it wants its standard input closed."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, token, str(file), str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    if process.stdout.readline() != READY:
        process.communicate()
        raise RuntimeError("the process that would end the network's others did not start")
    return process


def _watch(token: str, file: Path, parent: psutil.Process) -> None:
    # Either may tell it first: children of a fork hold the other end of the pipe open.
    closed = threading.Thread(target=os.read, args=(0, 1), daemon=True)
    closed.start()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    with contextlib.suppress(psutil.Error):
        while closed.is_alive() and parent.status() != psutil.STATUS_ZOMBIE:
            closed.join(0.5)
    end_marked(token)
    release(file, parent.pid)


if __name__ == "__main__":
    _watch(sys.argv[1], Path(sys.argv[2]), psutil.Process(int(sys.argv[3])))
