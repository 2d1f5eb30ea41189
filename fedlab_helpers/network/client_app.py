"""Flower's ClientApp: what a SuperNode runs for each message."""

import functools
import json
from collections.abc import Callable

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import ClientState, Reply, reason
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import PHASE, Node

KEPT, PENDING = "kept", "pending"  # records of a context: of the last rounds that a client trained
SUM = "sum"  # and what it knows of the secure sum of this round
_ROUND = "round"
app = ClientApp()
job_of = functools.lru_cache(maxsize=1)(Job.from_json)  # a process may stand for many clients


def client_of(context: Context) -> int:
    """Return which client this node is, as its own configuration says."""
    own = context.node_config  # or that of a simulation, whose nodes have a number
    return int(own["client"] if "client" in own else own["partition-id"])


def node_of(context: Context) -> Node:
    """Return this machine's node. Its own configuration says where its reviews lie; the run's says
    it of simulated nodes, whose reviews all lie on one machine."""
    torch.set_num_threads(1)
    config, client = context.run_config, client_of(context)
    simulated = json.loads(config["simulated"])
    own = simulated[client] if simulated else context.node_config["reviews"]
    return Node.owning(job_of(config["job"]), client, own)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer which client this node is."""
    record = ConfigRecord({"client": client_of(context)})
    return Message(RecordDict({"node": record}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the node's own reviews; what its client keeps stays in the node's context."""

    def trained(asked: ConfigRecord) -> Reply:
        return node_of(context).train(asked["round"], asked, kept(context, asked["latest"]))

    return _answer(message, context, trained)


@app.train(PHASE)
def take_part(message: Message, context: Context) -> Message:
    """Answer in one phase of a secure sum; in one of them the node trains."""

    def answered(asked: ConfigRecord) -> Reply:
        known = context.state.pop(SUM, {_ROUND: 0})
        held = known["held"] if known[_ROUND] == asked["round"] else ""
        keeps = kept(context, asked["latest"]) if asked["phase"] == "mask" else {}
        reply, held = node_of(context).answer(asked, held, keeps)
        context.state[SUM] = ConfigRecord({_ROUND: asked["round"], "held": held})
        return reply

    return _answer(message, context, answered)


def _answer(message: Message, context: Context, work: Callable[[ConfigRecord], Reply]) -> Message:
    """Return a node's reply as a message, having put away what its client keeps."""
    asked = message.content["request"]
    try:
        if asked["client"] != client_of(context):
            raise ValueError(f"client: got {asked['client']}, expected {client_of(context)}")
        reply = work(asked)
    except Exception as error:
        reply = Reply(client_of(context), failure=reason(error))
    if reply.failure is None and asked.get("phase", "mask") == "mask":
        stays = {owner: wire.dense().encode(part) for owner, part in reply.kept.items() if part}
        context.state[PENDING] = ConfigRecord({_ROUND: asked["round"], **stays})
    keeps = bool(reply.kept)  # or did before
    body = {"payload": reply.payload, "failure": reply.failure or "", "keeps": keeps}
    return Message(RecordDict({"reply": ConfigRecord(body)}), reply_to=message)


def kept(context: Context, latest: int) -> ClientState:
    """Return what the client kept of a round: the last one whose update the server could use.

    A node that answered in vain has moved on, but goes back: as if it had not been asked.

    Args:
        latest: the round; 0: there was none.

    Raises:
        ValueError: the node does not have it, for it was started anew.
    """
    if latest == 0:
        return {}
    for name in (PENDING, KEPT):
        record = context.state.get(name)
        if record is not None and record[_ROUND] == latest:
            context.state[KEPT] = record
            parts = ((owner, part) for owner, part in record.items() if owner != _ROUND)
            return {owner: wire.dense().decode(part) for owner, part in parts}
    raise ValueError(f"what this client keeps of round {latest} is lost: its node was started anew")


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the weights that came on the node's own reviews."""
    metrics = MetricRecord(node_of(context).evaluate(message.content["request"]))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
