"""Where computation happens and where randomness comes from: devices, threads, seeds."""

import hashlib
import json
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch

from fedlab_helpers.core.require import is_count, require

_OPEN = threading.local()  # how many are open in a thread, and the number before the first
Item = TypeVar("Item")
Result = TypeVar("Result")


def pick(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on: "auto" takes CUDA if there is one, else Apple's MPS, else
    the CPU; anything else is a name that torch knows ("cpu", "cuda:1", …). Raises ValueError where
    it does not, or this machine has no such device.
    """
    if device == "auto":
        name = next((kind for kind in ("cuda", "mps") if _count(kind)), "cpu")
        return torch.device(name, 0) if name == "cuda" else torch.device(name)
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: torch does not know {device!r}") from error
    there, kind = _count(chosen.type), chosen.type
    expected = f'"auto", "cpu" or one of the {there} device(s) of type {kind!r} on this machine'
    require((chosen.index or 0) < there, "device", device, expected)
    return chosen


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available() if kind == "mps" else kind in ("cpu", "meta"))


def place(n_clients: int, devices: Sequence[str | torch.device]) -> list[torch.device]:
    """Return the device of each client: clients are dealt to the devices in turn."""
    fine = not isinstance(devices, str | torch.device) and bool(devices)
    require(fine, "devices", devices, "a list with at least one device")
    chosen = [pick(device) for device in devices]
    return [chosen[client % len(chosen)] for client in range(n_clients)]


def worker_count(workers: int | str = "auto") -> int:
    """Return how many clients train side by side: "auto" is one for each CPU this process has."""
    if workers == "auto":
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else os.cpu_count() or 1
    require(is_count(workers), "workers", workers, '"auto" or a positive integer')
    return int(workers)


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside one operation, and restore the old number after; where
    several are open in a thread, as by generators, whichever ends last restores the first's."""
    before, opened = torch.get_num_threads(), _OPEN.__dict__  # this thread's, whoever ends it
    if not opened.setdefault("count", 0):
        opened["first"] = before
    opened["count"] += 1
    torch.set_num_threads(count)
    try:
        yield
    finally:
        opened["count"] -= 1
        torch.set_num_threads(before if opened["count"] else opened["first"])


def child_seed(seed: int, *keys: int | str) -> int:
    """Return a 63-bit seed for one purpose, e.g. `child_seed(seed, "dropout", round, client)`. The
    same seed and keys give the same number on every machine and Python version, and different keys
    give unrelated numbers, so nothing depends on who draws first. Raises ValueError for a seed that
    is no integer, or keys that are neither integers nor strings."""
    fine = isinstance(seed, Integral) and all(isinstance(key, Integral | str) for key in keys)
    require(fine, "seed", (seed, *keys), "integers, and strings as keys")
    told = json.dumps([int(seed), *(key if isinstance(key, str) else int(key) for key in keys)])
    digest = hashlib.blake2b(told.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_rng(seed: int, *keys: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded with `child_seed(seed, *keys)`."""
    return np.random.default_rng(child_seed(seed, *keys))


def torch_rng(seed: int, *keys: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator on `device` seeded with `child_seed(seed, *keys)`."""
    return torch.Generator(device).manual_seed(child_seed(seed, *keys))


def secret_rng() -> torch.Generator:
    """Return a CPU generator whose whole state is the operating system's: a seed, of which torch
    takes 32 bits, could be guessed."""
    rng = torch.Generator("cpu").manual_seed(0)
    state = rng.get_state()
    words = state.numpy()[24 : 24 + 8 * 624].view("<u8")  # of the Mersenne Twister, 32 bits each
    words[:] = np.frombuffer(secrets.token_bytes(4 * 624), "<u4")
    return rng.set_state(state)


class Halt(threading.Event):
    """An event that `is_set` also once the outer one is, which it never sets itself."""

    def __init__(self, outer: threading.Event | None = None):
        super().__init__()
        self.outer = outer

    def is_set(self) -> bool:
        return super().is_set() or (self.outer is not None and self.outer.is_set())


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    halt: threading.Event | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed in `workers` threads.

    At most workers + 2 results are alive, the one being used included, also when the first item
    takes longest: no further item is begun until that one is taken. Each thread lets torch use
    one intra-op thread, so that as many clients train as there are workers, and the bits do not
    depend on how many that is. However it ends, by Ctrl-C too, `halt` is set before the threads
    are waited for.
    """
    items = iter(items)
    pending: deque[tuple[Future[None], list[Result]]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))

    def begin(count: int) -> None:
        for item in islice(items, count):
            # Not returned: a thread that still leaves its future would keep the result alive.
            box: list[Result] = []
            pending.append((pool.submit(lambda i, to: to.append(function(i)), item, box), box))

    with intra_op_threads(1), pool:
        try:
            begin(workers + 1)
            while pending:
                future, box = pending.popleft()
                while not wait([future], timeout=1).done:
                    pass  # Ctrl-C is heard between two waits also where a lock does not let go
                future.result()
                yield box.pop()
                begin(1)  # not before the yield: till then the caller holds the last result
        finally:
            for future, _ in pending:
                future.cancel()
            if halt:
                halt.set()
