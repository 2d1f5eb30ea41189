"""A cell that ■ stops in the middle of training says so in one line, in a real kernel."""

import sys
from queue import Empty
from time import monotonic

import pytest
from jupyter_client.manager import start_new_kernel

from fedlab_helpers.lessons import interrupted, words

TRAINING = """
from fedlab_helpers import LocalConfig, Plan, SentimentLSTM, rounds, strategies
from fedlab_helpers.lessons import checks
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
import torch

n = 640
tokens = torch.randint(2, 50, (n, 20))
some = EncodedReviews(tokens, torch.full((n,), 20), torch.randint(2, (n,)))
plan = Plan(rounds=100_000, clients_per_round=2, local=LocalConfig())
done = []
for record in rounds(SentimentLSTM(50), [some] * 4, strategies.fedavg(), plan):
    done.append(record.round)
    if len(done) == 2:
        print("begun", flush=True)
"""


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def play(kernel, code: str, stop_at: str | None = None):
    """Run a cell, interrupt it where it prints `stop_at`; return the kernel's reply, and what the
    cell showed as (kind, text)."""
    manager, client = kernel
    sent, shown, end = client.execute(code), [], monotonic() + 120
    while monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=5)
        except Empty:
            continue
        if message["parent_header"].get("msg_id") != sent:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            shown.append((content["name"], content["text"]))
            if stop_at and stop_at in content["text"]:
                manager.interrupt_kernel()
        elif kind == "error":
            shown.append((kind, content["ename"]))
        elif kind == "status" and content["execution_state"] == "idle":
            break
    while True:  # under load, answers to older requests may still be on their way
        reply = client.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == sent:
            return reply["content"], shown


def test_a_stopped_training_says_one_line_fails_and_leaves_what_was_done(kernel):
    reply, shown = play(kernel, TRAINING, stop_at="begun")
    text = "".join(text for name, text in shown if name == "stdout").splitlines()
    assert text == ["begun", words.say("interrupted")]
    assert {name for name, _ in shown} == {"stdout"}  # nothing on stderr, and no traceback
    assert reply["status"] == "error"  # Run All goes no further
    assert reply["ename"] == "KeyboardInterrupt"
    reply, shown = play(kernel, "print(len(done) >= 2, 1 + 1)")
    assert (reply["status"], shown) == ("ok", [("stdout", "True 2\n")])


def test_other_errors_keep_their_traceback(kernel):
    reply, shown = play(kernel, "1 / 0")
    assert (reply["ename"], shown) == ("ZeroDivisionError", [("error", "ZeroDivisionError")])


class Shell:
    custom_exceptions = ()

    def set_custom_exc(self, exceptions, handler):
        self.custom_exceptions = exceptions


def test_who_has_a_handler_keeps_it_and_without_ipython_nothing_happens(monkeypatch):
    shell = Shell()
    fake = type(sys)("IPython")
    fake.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", fake)
    interrupted.tell_shortly()
    assert shell.custom_exceptions == (KeyboardInterrupt,)
    shell.custom_exceptions = (ValueError,)
    interrupted.tell_shortly()
    assert shell.custom_exceptions == (ValueError,)
    monkeypatch.delitem(sys.modules, "IPython")
    interrupted.tell_shortly()
