"""Devices, threads and seeds: the choice is stated, restored, and the same everywhere."""

import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.core import compute
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import fedavg
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CPU = torch.device("cpu")
KEYS = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes torch report so many CUDA devices, and MPS or not."""

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(2, True, "cuda:0"), (1, False, "cuda:0"), (0, True, "mps"), (0, False, "cpu")],
)
def test_auto_takes_cuda_before_mps_before_cpu(machine, cuda, mps, expected):
    machine(cuda, mps)
    assert compute.pick() == compute.pick("auto") == torch.device(expected)


def test_a_cuda_driver_without_a_device_is_no_cuda(machine, monkeypatch):
    machine(cuda=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute.pick() == CPU


def test_named_devices_are_taken_as_named(machine):
    machine(cuda=2, mps=True)
    for name in ("cpu", "cuda", "cuda:1", "mps"):
        assert compute.pick(name) == compute.pick(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "has"), [("cuda:2", "2 device"), ("cpu:1", "1 device"), ("mps", "0 device")]
)
def test_a_device_that_is_not_here_is_refused_with_what_is(machine, name, has):
    machine(cuda=2)
    with pytest.raises(ValueError, match=f"got '{name}', expected .*the {has}"):
        compute.pick(name)


@pytest.mark.parametrize("name", ["gpu", "", None])
def test_a_name_that_torch_does_not_know_is_refused(name):
    with pytest.raises(ValueError, match=f"device: torch does not know {name!r}"):
        compute.pick(name)


def test_clients_are_dealt_to_the_devices_in_turn(machine):
    machine(cuda=2)
    placed = compute.place(5, ["cuda:0", "cuda:1", "cpu"])
    assert [str(device) for device in placed] == ["cuda:0", "cuda:1", "cpu", "cuda:0", "cuda:1"]
    assert compute.place(2, ["auto"]) == [torch.device("cuda:0")] * 2
    assert compute.place(1, [CPU, "cuda:1"]) == [CPU]


@pytest.mark.parametrize("wrong", [[], "cuda", CPU])
def test_place_wants_a_list_of_devices(wrong):
    with pytest.raises(ValueError, match="expected a list with at least one device"):
        compute.place(3, wrong)


def test_place_refuses_a_device_that_is_not_here(machine):
    machine(cuda=1)
    with pytest.raises(ValueError, match=r"'cuda:1', expected .*the 1 device"):
        compute.place(3, ["cuda:0", "cuda:1"])


def test_worker_count_is_the_number_of_cpus_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert compute.worker_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert compute.worker_count("auto") == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert compute.worker_count("auto") == 1


def test_worker_count_takes_positive_integers():
    assert compute.worker_count(3) == compute.worker_count(np.int64(3)) == 3
    for wrong in (0, -1, 1.5, "two", None):
        with pytest.raises(ValueError, match='expected "auto" or a positive integer'):
            compute.worker_count(wrong)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_that_are_open_side_by_side_leave_the_number_as_it_was(order):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        opened = [compute.intra_op_threads(before) for _ in range(2)]
        for each in opened:
            each.__enter__()
        for place in order:
            opened[place].__exit__(None, None, None)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_one_that_is_ended_in_another_thread_leaves_that_thread_in_peace():
    opened = compute.intra_op_threads(1)
    opened.__enter__()
    ended = []

    def end():
        with compute.intra_op_threads(1):
            opened.__exit__(None, None, None)
        ended.append(True)

    other = threading.Thread(target=end)
    other.start()
    other.join()
    assert ended


@pytest.mark.parametrize("fails", [False, True])
def test_intra_op_threads_are_restored_also_after_an_exception(fails):
    before = torch.get_num_threads()
    try:
        with compute.intra_op_threads(before + 2):
            assert torch.get_num_threads() == before + 2
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert torch.get_num_threads() == before


def test_child_seeds_are_these_on_every_machine():
    assert child_seed(0) == 5621864261735219286
    assert child_seed(0, "dropout", 3, 7) == 6585500816697306771


@settings(max_examples=50)
@given(a=KEYS, b=KEYS)
def test_equal_keys_give_equal_seeds_and_other_keys_give_others(a, b):
    assert (child_seed(0, *a) == child_seed(0, *b)) == (a == b)
    assert 0 <= child_seed(0, *a) < 2**63


def test_order_and_type_of_keys_count():
    seeds = {
        child_seed(0, 1, 2),
        child_seed(0, 2, 1),
        child_seed(1, 0, 2),
        child_seed(0, 12),
        child_seed(0, "1", 2),
        child_seed(0, "1, 2"),
    }
    assert len(seeds) == 6


def test_numpy_integers_are_integers():
    assert child_seed(np.int64(5), np.int32(3), "a") == child_seed(5, 3, "a")


@pytest.mark.parametrize("keys", [(1.5,), (0, 0.1), (0, None), ("0",)])
def test_keys_that_would_be_rounded_are_refused(keys):
    with pytest.raises(ValueError, match="expected integers, and strings as keys"):
        child_seed(*keys)


def test_generators_start_from_their_child_seed():
    again = np.random.default_rng(child_seed(3, "cohort"))
    assert compute.numpy_rng(3, "cohort").integers(10**9) == again.integers(10**9)
    assert compute.torch_rng(3, "order").initial_seed() == child_seed(3, "order")
    assert compute.torch_rng(3, "order").device == CPU


class Witness(SentimentLSTM):
    """Notes where its forward pass runs."""

    seen: set[str] = set()  # noqa: RUF012 - shared by the clients' copies, on purpose

    def forward(self, tokens, lengths):
        if self.training:
            self.seen.add(tokens.device.type)
        return super().forward(tokens, lengths)


@pytest.mark.gpu
@pytest.mark.skipif(compute.pick().type == "cpu", reason="torch finds no accelerator here")
def test_clients_train_on_the_accelerator_and_are_averaged_on_the_cpu():
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 50, (40, 7), generator=rng)
    data = EncodedReviews(tokens, torch.full((40,), 7), torch.randint(0, 2, (40,), generator=rng))
    clients = [data.subset(range(start, start + 10)) for start in range(0, 40, 10)]
    plan = Plan(2, local=LocalConfig(batch_size=5, lr=0.1, optimizer="sgd"))
    ends = {}
    for name, places in {"spread": [compute.pick(), "cpu"], "cpu": ["cpu"]}.items():
        Witness.seen.clear()
        model = Witness(50, 8, 8, seed=0)
        history = run(model, clients, fedavg(), plan, client_devices=places, test=data)
        assert Witness.seen == {torch.device(place).type for place in places}
        assert not any(record.left_out for record in history)
        ends[name] = model.state_dict()
    for name, tensor in ends["spread"].items():
        assert tensor.device == CPU
        torch.testing.assert_close(tensor, ends["cpu"][name], atol=1e-3, rtol=1e-3)
