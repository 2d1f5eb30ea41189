"""Several clients at work side by side, their results taken in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

from fedlab_helpers.core.compute import intra_op_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed in `workers` threads.

    At most workers + 2 results are alive, the one being used included, also when the first item
    takes longest: no further item is begun until that one is taken. Each thread lets torch use
    one intra-op thread, so that as many clients train as there are workers, and the bits do not
    depend on how many that is.
    """
    items = iter(items)
    pending: deque[tuple[Future[None], list[Result]]] = deque()

    def work(item: Item, box: list[Result]) -> None:
        # Not returned: a thread that still leaves its future would keep the result alive.
        box.append(function(item))

    def begin(count: int) -> None:
        for item in islice(items, count):
            box: list[Result] = []
            pending.append((pool.submit(work, item, box), box))

    with (
        intra_op_threads(1),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            begin(workers + 1)
            while pending:
                future, box = pending.popleft()
                future.result()
                yield box.pop()
                begin(1)  # not before the yield: till then the caller holds the last result
        finally:
            for future, _ in pending:
                future.cancel()
