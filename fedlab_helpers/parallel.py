"""Several clients at work side by side, their results taken in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

from fedlab_helpers.devices import intra_op_threads

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
    pending: deque = deque()
    with (
        intra_op_threads(1),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            pending.extend(pool.submit(function, item) for item in islice(items, workers + 1))
            while pending:
                # Begun after the yield: until then the caller still holds the result before.
                yield pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(items, 1))
        finally:
            for future in pending:
                future.cancel()
            wait(pending)
