"""Flower's ServerApp: the round loop of `federated`, with nodes for clients."""

import json
import time
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedlab_helpers import federated, state, wire
from fedlab_helpers.messages import Received, Reply
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import pack
from fedlab_helpers.network.runs import FAILURE, METRICS, RECORDS, WEIGHTS
from fedlab_helpers.updates import ClientState, Codec

PAUSE = 0.05  # seconds between two looks at what has arrived
LOST = {2: "its code failed", 3: "too late", 5: "node lost", 8: "its process ended"}
app = ServerApp()


class Nodes:
    """The clients of a run as machines: a crew for `federated.rounds_with`.

    Args:
        grid: Flower's connection to the nodes.
        job: what was agreed on.
        size: how many clients there are.
        timeout: seconds in which a node must answer; who does not is left out of the round.
    """

    def __init__(self, grid: Grid, job: Job, size: int, timeout: float):
        self.grid, self.job, self.size, self.timeout = grid, job, size, timeout
        self.codec: Codec = job.new_codec()
        self._client_of: dict[int, int] = {}  # node -> client

    def shared(self, name: str) -> bool:
        """Every parameter is."""
        return True

    def sparse_parameter(self) -> str | None:
        """None: whole weights are sent down."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of a run with these clients."""
        return {**self.job.identity(), "nodes": self.size}

    def wait(self) -> None:
        """Wait until all clients are there.

        Raises:
            TimeoutError: they are not, after the timeout.
        """
        end = time.monotonic() + self.timeout
        while len(there := self._online()) < self.size:
            if time.monotonic() > end:
                raise TimeoutError(f"nodes: clients {sorted(there)} came, expected {self.size}")
            time.sleep(PAUSE)

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the reply of each client of round `number`, in cohort order, once all are there.

        What clients keep is kept by their nodes: `states` is not looked at.
        """
        request = ConfigRecord({"round": number, **pack(received)})
        nodes, cohort = self._online(), list(cohort)
        asked = {nodes[client]: request for client in cohort if client in nodes}
        answers = self._ask(asked, MessageType.TRAIN)
        for client in cohort:
            yield _reply(client, answers.get(nodes.get(client)), client in nodes)

    def evaluate(self, weights: state.State) -> dict[int, dict[str, float]]:
        """Return, for each client that answers, the metrics on its own reviews."""
        nodes = self._online()
        request = ConfigRecord(pack(Received(weights)))
        answers = self._ask(dict.fromkeys(nodes.values(), request), MessageType.EVALUATE)
        return {
            client: dict(answers[node].content["metrics"])
            for client, node in sorted(nodes.items())
            if node in answers and answers[node].has_content()
        }

    def _online(self) -> dict[int, int]:
        """Return client -> node of all that are there; who is new is asked which client it is."""
        there = set(self.grid.get_node_ids())
        new = dict.fromkeys(there - self._client_of.keys(), ConfigRecord())
        for node, answer in self._ask(new, MessageType.QUERY).items():
            if answer.has_content():
                self._client_of[node] = answer.content["node"]["client"]
        return {client: node for node, client in self._client_of.items() if node in there}

    def _ask(self, requests: Mapping[int, ConfigRecord], kind: str) -> dict[int, Message]:
        """Return the answers that came in time, by node."""
        messages = [
            Message(RecordDict({"request": body}), node, kind, ttl=self.timeout)
            for node, body in requests.items()
        ]
        left = dict(zip(self.grid.push_messages(messages), requests, strict=True))
        answers, end = {}, time.monotonic() + self.timeout
        while left and time.monotonic() < end:
            for answer in self.grid.pull_messages(list(left)):
                answers[left.pop(answer.metadata.reply_to_message_id)] = answer
            time.sleep(PAUSE if left else 0)
        return answers


def _reply(client: int, answer: Message | None, there: bool) -> Reply:
    """Return what became of a request."""
    if answer is None:
        return Reply(client, failure="no answer in time" if there else "no node is there")
    if answer.has_error():
        why = LOST.get(answer.error.code, f"error {answer.error.code}")
        return Reply(client, failure=f"{why}: {answer.error.reason}"[:500])
    body = answer.content["reply"]
    return Reply(client, body["payload"], failure=body["failure"] or None)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Play the run's rounds, and write records and weights into its folder as they come."""
    torch.set_num_threads(1)
    config = context.run_config
    folder = Path(config["folder"])
    try:
        job = Job.from_json(config["job"])
        nodes = Nodes(grid, job, int(config["nodes"]), float(config["timeout"]))
        _play(nodes, job, folder)
    except Exception as error:
        _write(folder / FAILURE, f"{type(error).__name__}: {error}".encode())
        raise


def _play(nodes: Nodes, job: Job, folder: Path) -> None:
    nodes.wait()
    model, records = job.new_model(), []
    played = federated.rounds_with(
        nodes, model, job.new_strategy(), job.plan, checkpoint=folder / "checkpoint"
    )
    for record in played:
        records.append(record.to_json())
        _write(folder / RECORDS, json.dumps(records).encode())
    weights = state.of_model(model)
    _write(folder / WEIGHTS, wire.dense().encode(weights))
    _write(folder / METRICS, json.dumps(nodes.evaluate(weights)).encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file at once, so that whoever looks sees the old one or the new one."""
    path.with_suffix(".tmp").write_bytes(content)
    path.with_suffix(".tmp").replace(path)
