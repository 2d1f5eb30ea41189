"""What a secure sum costs: python tests/benchmarks/secure_sum.py --clients 100 --bits 32 16

All rounds in one process and one thread. Processor seconds of each step, of all clients together
or of the server, and the bytes that one client sends and receives. With `--dropped` clients fall
silent after they have shared, so that the server removes what others added for them.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.privacy.secure import Client, Server
from fedlab_helpers.privacy.secure.shamir import SHARE_BYTES

VALUES = 768_578  # of the course's model
CLIENT_BYTES = 4  # a client's number, where survivors are named
STEPS = ("advertise", "share", "mask", "add", "answer", "unmask")


class Stopwatch:
    """The processor seconds spent in each step."""

    def __init__(self):
        self.spent = dict.fromkeys(STEPS, 0.0)

    def __call__(self, step: str, call: Callable, *args: Any) -> Any:
        """Return what a call returns, and add its time to that of the step."""
        began = time.process_time()
        result = call(*args)
        self.spent[step] += time.process_time() - began
        return result


def timed_sum(
    n_clients: int, n_values: int, bits: int, dropped: int
) -> tuple[dict[str, float], int, int]:
    """Return the seconds of each step, and the bytes that the last client sends and receives."""
    watch, threshold = Stopwatch(), n_clients // 2 + 1
    vectors = numpy_rng(0).integers(0, 2**bits, (2, n_values), dtype=f"u{bits // 8}")
    clients, server = {n: Client(n, threshold) for n in range(n_clients)}, Server(threshold)
    roster = server.announce({n: watch("advertise", c.advertise) for n, c in clients.items()})
    sent = {n: watch("share", c.share, roster) for n, c in clients.items()}
    inboxes, alive = server.deliver(sent), range(dropped, n_clients)
    for n in alive:
        masked = watch("mask", clients[n].mask, inboxes[n], vectors[n % 2])
        watch("add", server.add, n, masked)
    survivors = server.survivors()
    replies = {n: watch("answer", clients[n].unmask, survivors) for n in survivors}
    total = watch("unmask", server.unmask, replies)
    counts = np.bincount([n % 2 for n in alive], minlength=2).astype(vectors.dtype)
    assert np.array_equal(total, counts[0] * vectors[0] + counts[1] * vectors[1])
    last = n_clients - 1
    up = [*sent[last].values(), roster[last].to_bytes(), masked.tobytes()]
    down = [*inboxes[last].values(), *(keys.to_bytes() for keys in roster.values())]
    answer, told = SHARE_BYTES * len(replies[last]), CLIENT_BYTES * len(survivors)
    return watch.spent, sum(map(len, up)) + answer, sum(map(len, down)) + told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--values", type=int, default=VALUES)
    parser.add_argument("--bits", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--dropped", type=int, nargs="+", default=[0, 10])
    chosen = parser.parse_args()
    print("bits dropped", *(f"{step:>9s}" for step in STEPS), "  together   bytes up bytes down")
    for bits in chosen.bits:
        for dropped in chosen.dropped:
            spent, up, down = timed_sum(chosen.clients, chosen.values, bits, dropped)
            times = [f"{seconds:9.2f}" for seconds in spent.values()]
            together = f"{sum(spent.values()):8.2f} s"
            print(f"{bits:4d} {dropped:7d}", *times, together, f"{up:10,d} {down:10,d}", flush=True)


if __name__ == "__main__":
    main()
