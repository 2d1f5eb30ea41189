"""The clients of a run as machines: asked over Flower's grid, and believed in nothing."""

import contextlib
import json
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedlab_helpers.core import state
from fedlab_helpers.core.history import RoundBooks
from fedlab_helpers.core.messages import Codec, Received, Reply, Update, Workers, reason
from fedlab_helpers.network.flower import NetworkError
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import PHASE, pack
from fedlab_helpers.network.processes import until
from fedlab_helpers.privacy.secure.rounds import sums

PAUSE = 0.05  # seconds between two looks at what has arrived
INTRODUCTION = 10.0  # seconds that a round waits for new nodes to say which client they are
LOST = {2: "its code failed", 3: "too late", 5: "node lost", 8: "its process ended"}
METRICS = {"loss", "examples"}  # and what the task measures
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
        timeout: seconds in which a node must answer; who does not is left out of the round.
    """

    def __init__(self, grid: Grid, job: Job, size: int, timeout: float):
        self.grid, self.job, self.size, self.timeout = grid, job, size, timeout
        self.codec: Codec = job.new_codec()
        self.secure = job.secure
        self._client_of: dict[int, int] = {}  # node -> client
        self._named = {f"client{client}": client for client in range(size)}
        self._met: set[int] = set()  # nodes that were seen
        self._unheard: dict[str, int] = {}  # message -> node of those that have not said it yet
        self._keeping: set[int] = set()  # who keeps something of this round
        self._latest: dict[int, int] = {}  # client -> the last round of which it keeps something

    repeatable = True  # as far as the server can know: transforms are a node's own affair

    def shared(self, name: str) -> bool:
        return True

    def identity(self) -> dict[str, Any]:
        job = json.loads(self.job.to_json())
        del job["plan"]  # of which more rounds are welcome
        return {**job, "nodes": self.size}

    def wait(self) -> None:
        """Wait until all clients are there. Raises TimeoutError: after so long, they are not."""
        if not until(lambda: len(self._online()) == self.size, self.timeout, PAUSE):
            came = sorted({*self._client_of.values()})
            raise TimeoutError(f"nodes: clients {came} came, expected {self.size} at one time")

    def replies(
        self, number: int, cohort: Iterable[int], received: Received, states: object
    ) -> Generator[Reply, None, None]:
        """Yield the replies once all are there. `states` is not looked at: what clients keep is
        kept by their nodes, which are told of which round it is to be."""
        nodes, cohort, sent = self._online(), list(cohort), pack(received)
        requests = {}
        for client in cohort:
            if client in nodes:
                own = {"round": number, "client": client, "latest": self._latest.get(client, 0)}
                requests[nodes[client]] = ConfigRecord(own | sent)
        answers = self._ask(requests, MessageType.TRAIN, self.timeout)
        self._keeping = set()
        for client in cohort:
            if client in nodes:
                yield self._reply(client, answers.get(nodes[client]))
            else:
                yield Reply(client, failure="no node is there")

    def updates(
        self,
        books: RoundBooks,
        least: int,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: object,
    ) -> Generator[Update, None, None]:
        """As in `Workers`; of a job with secure sums, their mean only."""
        if self.secure is None:
            return super().updates(books, least, number, cohort, received, states)
        cohort, nodes, self._keeping = tuple(cohort), self._online(), set()

        def ask(phase: str, messages: Mapping[int, bytes]) -> Generator[Reply, None, None]:
            sent = pack(received) if phase == "mask" else {}
            sent |= {"round": number, "clients": len(cohort), "phase": phase}
            requests = {}
            for who, message in messages.items():
                if who in nodes:
                    own = {"client": who, "message": message, "latest": self._latest.get(who, 0)}
                    requests[nodes[who]] = ConfigRecord(sent | own)
            answers = self._ask(requests, f"{MessageType.TRAIN}.{PHASE}", self.timeout)
            for who in messages:
                if who in nodes:
                    yield self._reply(who, answers.get(nodes[who]))
                else:
                    yield Reply(who, failure="no node is there")

        run = (self.secure, self.job.new_strategy(), ask)
        return sums(*run, books, least, number, cohort, received)

    def accepted(self, number: int, clients: Iterable[int]) -> None:
        # What they keep of this round counts.
        self._latest |= dict.fromkeys(self._keeping & {*clients}, number)

    def evaluate(self, weights: state.State) -> dict[int, dict[str, float]]:
        """Return, for each client that answers rightly, the metrics on its own reviews."""
        nodes, found = self._online(), {}
        requests = dict.fromkeys(nodes.values(), ConfigRecord(pack(Received(weights))))
        answers = self._ask(requests, MessageType.EVALUATE, self.timeout)
        for client, node in sorted(nodes.items()):
            with contextlib.suppress(Exception):  # whatever a node may send, or fail to
                metrics = dict(answers[node].content["metrics"])
                if len(metrics) < 10 and metrics.keys() > METRICS:
                    found[client] = {name: float(value) for name, value in metrics.items()}
        return found

    def _reply(self, client: int, answer: Answer | None) -> Reply:
        """Return what became of a request."""
        if answer is None:
            return Reply(client, failure="no answer in time")
        if isinstance(answer, Exception):
            return Reply(client, failure=reason(answer))
        if answer.has_error():
            why = LOST.get(answer.error.code, f"error {answer.error.code}")
            return Reply(client, failure=f"{why}: {answer.error.reason}"[:500])
        try:
            body = answer.content["reply"]
            payload, failure, keeps = body["payload"], body["failure"], body["keeps"]
            if (type(payload), type(failure), type(keeps)) != (bytes, str, bool):
                raise TypeError(f"reply: got {type(payload)}, {type(failure)}, {type(keeps)}")
        except Exception as error:
            return Reply(client, failure=reason(error))
        if keeps:
            self._keeping.add(client)
        return Reply(client, payload, failure=failure[:500] or None)

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
        until(lambda: nameless.isdisjoint(self._hear()), min(self.timeout, INTRODUCTION), PAUSE)
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

    def _ask(
        self, requests: Mapping[int, ConfigRecord], kind: str, timeout: float
    ) -> dict[int, Answer]:
        """Return what came of each request in time, by node."""
        left = self._push(requests, kind)
        unsent = requests.keys() - left.values()
        answers = dict.fromkeys(unsent, NetworkError("its message was not taken"))

        def all_came() -> bool:
            answers.update(self._pull(left))
            return not left

        until(all_came, timeout, PAUSE)
        return answers

    def _push(self, requests: Mapping[int, ConfigRecord], kind: str) -> dict[str, int]:
        """Send a message to each node; return message -> node of those that were taken."""
        # Longer than we wait, for machines' clocks differ.
        messages = [
            Message(RecordDict({"request": body}), node, kind, ttl=self.timeout + 3600)
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
