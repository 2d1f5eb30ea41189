"""The clients of a run as machines: asked over Flower's grid, and believed in nothing."""

import contextlib
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from typing import Any

import torch
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedlab_helpers.core import rows
from fedlab_helpers.core.history import RoundBooks
from fedlab_helpers.core.messages import (
    ClientState,
    Codec,
    Received,
    Reply,
    Update,
    Workers,
    one_line,
    reason,
)
from fedlab_helpers.core.state import State
from fedlab_helpers.network.deadline import FIRST, Deadline
from fedlab_helpers.network.flower import NetworkError
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import PHASE, pack
from fedlab_helpers.network.processes import until
from fedlab_helpers.network.versions import Letters
from fedlab_helpers.privacy.secure.rounds import sums

PAUSE = 0.05  # seconds between two looks at what has arrived
BLOCKED = 1.0  # seconds that a look may take; longer, it is the SuperLink that stands still
RETURN = 30.0  # seconds in which nodes may come back, where all were lost
INTRODUCTION = 10.0  # seconds that a round waits for new nodes to say which client they are
LOST = {2: "its code failed", 3: "too late", 5: "node lost", 8: "its process ended"}
METRICS = {"loss", "examples"}  # and what the task measures
KEPT, ROUND = "node", "round"  # owner and name of what the server knows of what a client keeps
Answer = Message | Exception  # the latter: why it could not be sent, or read


class Nodes(Workers):
    """The workers of `rounds_with`: machines.

    Which client a node is, says the name under which its key was registered; where nodes have no
    keys, it says so itself. Of two nodes for one client the newer is asked: a machine that starts
    again comes back as another node.

    Args:
        grid: Flower's connection to the nodes.
        job: what was agreed on.
        size: how many clients there are.
        timeout: seconds in which a node must answer; who does not is left out of the round. None:
            as `Deadline` finds from how long others take.
    """

    def __init__(self, grid: Grid, job: Job, size: int, timeout: float | None = None):
        self.grid, self.job, self.size, self.timeout = grid, job, size, timeout
        self.codec: Codec = job.new_codec()
        self.secure, transforms = job.secure, job.new_transforms()
        self.repeatable = not any(getattr(t, "secret", False) for t in transforms)
        parts = job.plan.local.weight_decay, job.new_strategy(), *transforms
        self.table = rows.sparse_table(job.new_model(), self.shared, self.codec, *parts)
        self._deadlines: dict[str, Deadline] = defaultdict(lambda: Deadline(timeout))  # by kind
        self._client_of: dict[int, int] = {}  # node -> client
        self._named = {f"client{client}": client for client in range(size)}
        self._met: set[int] = set()  # nodes that were seen
        self._unheard: dict[str, int] = {}  # message -> node of those that have not said it yet

    def shared(self, name: str) -> bool:
        return True

    def identity(self) -> dict[str, Any]:
        job = json.loads(self.job.to_json())
        del job["plan"]  # of which more rounds are welcome
        return {**job, "nodes": self.size}

    def wait(self, seconds: float, least: int | None = None) -> None:
        """Wait until all clients are there, or at the end of so many seconds at least `least`.

        Raises NetworkError: they are not.
        """
        there: dict[int, int] = {}

        def all_came() -> bool:
            nonlocal there
            there = self._online()
            return len(there) == self.size

        if not until(all_came, seconds, PAUSE) and len(there) < (least or self.size):
            missing = [client for client in range(self.size) if client not in there]
            came = f"nodes: clients {sorted(there)} came, {missing} did not in {seconds:.0f} s"
            raise NetworkError(f"{came}; {len(there)} came, expected {least or self.size}")

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: Mapping[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the replies once all are there. What clients keep is kept by their nodes; `states`
        says of which round."""
        letters = Letters(received)
        return self._exchange(MessageType.TRAIN, number, cohort, letters.to, states)

    def updates(
        self,
        books: RoundBooks,
        least: int,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: Mapping[int, ClientState],
    ) -> Generator[Update, None, None]:
        """As in `Workers`; of a job with secure sums, their mean only."""
        if self.secure is None:
            return super().updates(books, least, number, cohort, received, states)
        cohort, kind = tuple(cohort), f"{MessageType.TRAIN}.{PHASE}"
        letters = Letters(received)

        def ask(phase: str, messages: Mapping[int, bytes]) -> Generator[Reply, None, None]:
            def letter(client: int) -> dict[str, Any]:
                own = {"clients": len(cohort), "phase": phase, "message": messages[client]}
                return own | letters.to(client) if phase == "mask" else own

            return self._exchange(kind, number, messages, letter, states, phase)

        run = (self.secure, self.job.new_strategy(), ask)
        return sums(*run, books, least, number, cohort, received)

    def _exchange(
        self,
        kind: str,
        number: int,
        cohort: Iterable[int],
        letter: Callable[[int], Mapping[str, Any]],
        states: Mapping[int, ClientState],
        work: str | None = None,
    ) -> Generator[Reply, None, None]:
        """Send each of a cohort its letter, and yield what came, in this order; `work` is of which
        kind it is, where messages of one kind ask for different work.

        Where nobody answers, it was the SuperLink: all who are there are asked once more, and who
        has trained in this round already sends the same. A phase of a secure sum is asked once.
        """
        cohort, once = list(cohort), work is not None or self.timeout is not None
        for again in (False,) if once else (False, True):
            if again:  # nodes that lost their SuperLink are just starting anew
                until(lambda: self._online().keys() >= {*cohort}, RETURN, 10 * PAUSE)
            nodes, requests = self._online(), {}
            for client in cohort:
                if client in nodes:
                    own = {"round": number, "client": client, "latest": _latest(states, client)}
                    requests[nodes[client]] = ConfigRecord({**letter(client), **own})
            answers = self._ask(requests, kind, work or kind)
            if any(not isinstance(a, Exception) and not a.has_error() for a in answers.values()):
                break
        for client in cohort:
            if client in nodes:
                yield self._reply(number, client, answers.get(nodes[client]))
            else:
                yield Reply(client, failure="no node is there")

    def evaluate(self, weights: State) -> dict[int, dict[str, float]]:
        """Return, for each client that answers rightly, the metrics on its own reviews."""
        nodes, found = self._online(), {}
        requests = dict.fromkeys(nodes.values(), ConfigRecord(pack(Received(weights))))
        answers = self._ask(requests, MessageType.EVALUATE, MessageType.EVALUATE)
        for client, node in sorted(nodes.items()):
            with contextlib.suppress(Exception):  # whatever a node may send, or fail to
                metrics = dict(answers[node].content["metrics"])
                plain = all(name == one_line(name) and len(name) < 40 for name in metrics)
                if len(metrics) < 10 and plain and metrics.keys() > METRICS:
                    found[client] = {name: float(value) for name, value in metrics.items()}
        return found

    def _reply(self, number: int, client: int, answer: Answer | None) -> Reply:
        """Return what became of a request."""
        if answer is None:
            return Reply(client, failure="no answer in time")
        if isinstance(answer, Exception):
            return Reply(client, failure=reason(answer))
        if answer.has_error():
            why = LOST.get(answer.error.code, f"error {answer.error.code}")
            return Reply(client, failure=one_line(f"{why}: {answer.error.reason}"))
        try:
            body = answer.content["reply"]
            payload, failure, keeps = body["payload"], body["failure"], body["keeps"]
            if (type(payload), type(failure), type(keeps)) != (bytes, str, bool):
                raise TypeError(f"reply: got {type(payload)}, {type(failure)}, {type(keeps)}")
            if zlib.crc32(payload) != body["crc"]:  # nothing else would tell it of a masked vector
                raise ValueError("reply: its bytes were damaged on the way")
        except Exception as error:
            return Reply(client, failure=reason(error))
        # What it keeps stays there: here is kept of which round it is.
        kept = {KEPT: {ROUND: torch.tensor(number)}} if keeps else {}
        return Reply(client, payload, kept, one_line(failure) or None)

    def _online(self) -> dict[int, int]:
        """Return client -> node of all that are there, as far as it is known which they are."""
        nodes = sorted(self.grid.get_nodes(), key=lambda node: node.last_activated_at)
        new = {node.node_id: node.name for node in nodes if node.node_id not in self._met}
        self._met.update(new)
        self._client_of |= {n: self._named[name] for n, name in new.items() if name in self._named}
        nameless = {node for node, name in new.items() if not name}
        sent = self._push(dict.fromkeys(nameless, ConfigRecord()), MessageType.QUERY)
        self._unheard |= sent
        self._met -= nameless - {*sent.values()}  # whom no message was sent is met anew
        # Each is given a moment; who takes longer is heard later.
        moment = min(self.timeout or INTRODUCTION, INTRODUCTION)
        until(lambda: nameless.isdisjoint(self._hear()), moment, PAUSE)
        there = [node.node_id for node in nodes if node.node_id in self._client_of]
        return {self._client_of[node]: node for node in there}  # of two, the newer

    def _hear(self) -> Collection[int]:
        """Take note of which client nodes say they are; return those that have not said it."""
        for node, answer in self._pull(self._unheard).items():
            if isinstance(answer, Exception) or answer.has_error():
                self._met.discard(node)  # it is asked again
                continue
            with contextlib.suppress(Exception):  # whatever a node may send
                client = answer.content["node"]["client"]
                if type(client) is int and 0 <= client < self.size:
                    self._client_of[node] = client
        return self._unheard.values()

    def _ask(self, requests: Mapping[int, ConfigRecord], kind: str, work: str) -> dict[int, Answer]:
        """Return what came of each request before the deadline of such work, by node."""
        left, deadline = self._push(requests, kind), self._deadlines[work]
        unsent = requests.keys() - left.values()
        answers = dict.fromkeys(unsent, NetworkError("its message was not taken"))
        began = time.monotonic()

        while left and time.monotonic() < began + deadline.seconds(left.values()):
            looked = time.monotonic()
            for node, answer in self._pull(left).items():
                answers[node] = answer
                if _has_worked(answer):
                    deadline.answered(node, time.monotonic() - began)
            began += max(0.0, time.monotonic() - looked - BLOCKED)  # no node's fault
            time.sleep(PAUSE if left else 0)
        deadline.missed(left.values())
        return answers

    def _push(self, requests: Mapping[int, ConfigRecord], kind: str) -> dict[str, int]:
        """Send a message to each node; return message -> node of those that were taken."""
        # Longer than we wait, for machines' clocks differ.
        messages = [
            Message(RecordDict({"request": body}), node, kind, ttl=(self.timeout or FIRST) + 3600)
            for node, body in requests.items()
        ]
        taken = {*self.grid.push_messages(messages)} if messages else set()
        sent = {message.metadata.message_id: message.metadata for message in messages}
        return {number: sent[number].dst_node_id for number in sent if number in taken}

    def _pull(self, left: dict[str, int]) -> dict[int, Answer]:
        """Return what came, by node; its messages leave `left`."""
        answers = {}  # one at a time, for one that cannot be read would take others with it
        for number in list(left):
            try:
                found = [*self.grid.pull_messages([number])]
            except Exception as error:
                found = [error]
            if found:
                answers[left.pop(number)] = found[0]
        return answers


def _has_worked(answer: Answer) -> bool:
    """Return whether an answer took its node the time of the work: a refusal is quick."""
    if isinstance(answer, Exception) or answer.has_error():
        return False
    with contextlib.suppress(Exception):  # whatever a node may send
        return not answer.content["reply"]["failure"]
    return "metrics" in answer.content


def _latest(states: Mapping[int, ClientState], client: int) -> int:
    """Return the last round of which a client keeps something that counts; 0: none."""
    known = states.get(client, {}).get(KEPT)
    return int(known[ROUND]) if known else 0
