"""Clients side by side: in order, few at a time, and without a trace afterwards."""

import random
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fedlab_helpers.core import compute
from fedlab_helpers.core.compute import ordered_map


class Result:
    """Something that a weak reference can watch."""


@pytest.fixture(autouse=True)
def several_intra_op_threads():
    """Give torch a thread count that one can tell from the workers' 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def eager_switching():
    """Let Python switch threads as often as it can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_items_whatever_finishes_first(workers):
    pauses = [random.Random(workers).random() / 200 for _ in range(20)]

    def work(item):
        time.sleep(pauses[item])
        return item * 10

    assert list(ordered_map(work, iter(range(20)), workers)) == [i * 10 for i in range(20)]


def test_no_items_and_fewer_items_than_workers():
    assert list(ordered_map(str, [], 3)) == []
    assert list(ordered_map(str, [1, 2], 8)) == ["1", "2"]


def test_items_are_at_work_side_by_side():
    meeting = threading.Barrier(3)
    assert len(set(ordered_map(lambda _: meeting.wait(timeout=30), range(3), 3))) == 3


class Watch:
    """Makes results and counts how many of them are alive, and the most there ever were."""

    def __init__(self, slow=None):
        self.lock, self.alive, self.peak, self.made = threading.Lock(), weakref.WeakSet(), 0, 0
        self.slow, self.enough = slow, threading.Event()

    def __call__(self, item):
        if item == self.slow:
            self.enough.wait(timeout=0.3)
        result = Result()
        with self.lock:
            self.alive.add(result)
            self.made += 1
            self.peak = max(self.peak, len(self.alive))
        return result


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_at_most_workers_plus_2_results_are_alive(workers):
    for _ in range(5):
        watch = Watch()
        for _result in ordered_map(watch, range(100), workers):
            pass
        assert watch.made == 100
        assert watch.peak <= workers + 2


@pytest.mark.parametrize("workers", [2, 4])
def test_a_slow_first_item_does_not_pile_up_the_others(workers):
    watch = Watch(slow=0)
    results = ordered_map(watch, range(50), workers)
    assert isinstance(next(results), Result)
    assert watch.made <= workers + 1
    for _result in results:
        pass
    assert watch.made == 50
    assert watch.peak <= workers + 2


def test_a_result_put_down_by_the_caller_is_gone():
    results = ordered_map(Watch(), range(5), 1)
    seen = weakref.ref(next(results))
    assert seen() is None
    results.close()


def test_an_exception_comes_through_and_what_is_pending_is_cancelled():
    begun = []
    lock = threading.Lock()

    def work(item):
        with lock:
            begun.append(item)
        if item == 2:
            raise KeyError("client 2")
        return item

    results = ordered_map(work, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="client 2"):
        next(results)
    assert len(begun) <= 6
    assert list(results) == []
    assert torch.get_num_threads() == 3


def test_an_interrupt_cancels_what_has_not_begun(monkeypatch):
    begun, release = [], threading.Event()

    def work(item):
        begun.append(item)
        release.wait(timeout=30)

    def interrupted(futures, timeout):
        threading.Timer(0.2, release.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(compute, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(ordered_map(work, range(9), 1))
    assert begun == [0]
    assert torch.get_num_threads() == 3


def test_closing_early_ends_the_threads_and_begins_nothing_more():
    threads = threading.active_count()
    begun = []
    results = ordered_map(begun.append, range(1000), 2)
    next(results)
    results.close()
    count = len(begun)
    assert count <= 4
    assert threading.active_count() == threads
    assert torch.get_num_threads() == 3
    assert list(results) == []
    assert len(begun) == count


def threads_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_workers_have_one_intra_op_thread_and_nobody_else_afterwards():
    inside = set(ordered_map(lambda _: torch.get_num_threads(), range(8), 2))
    assert inside == {1}
    assert torch.get_num_threads() == 3
    assert threads_of_a_new_thread() == 3


def test_the_caller_computes_with_one_thread_too_while_the_workers_do():
    results = ordered_map(str, range(3), 1)
    next(results)
    assert torch.get_num_threads() == 1
    results.close()
    assert torch.get_num_threads() == 3
