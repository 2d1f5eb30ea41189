"""Flower's ClientApp: what a SuperNode runs for each message."""

import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlab_helpers.core.messages import Reply, reason
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.kept import Kept
from fedlab_helpers.network.node import PHASE, Node
from fedlab_helpers.network.versions import read

SUM = "sum"  # record of a context: what a node knows of the secure sum of this round, nowhere else
app = ClientApp()
job_of = functools.lru_cache(maxsize=1)(Job.from_json)  # a process may stand for many clients


def client_of(context: Context) -> int:
    """Return which client this node is, as its own configuration says."""
    own = context.node_config  # or that of a simulation, whose nodes have a number
    return int(own["client"] if "client" in own else own["partition-id"])


def node_of(context: Context) -> Node:
    """Return this machine's node. Its own configuration says where its examples lie; the run's says
    it of simulated nodes, whose examples all lie on one machine."""
    torch.set_num_threads(1)
    config, client = context.run_config, client_of(context)
    job, own = job_of(config["job"]), context.node_config
    if "reviews" not in own:
        return Node.owning(job, client, json.loads(config["simulated"])[client])
    kept_of(context).require_same_examples(own["reviews"], own["sha256"])
    return Node.owning(job, client, own["reviews"])


def kept_of(context: Context) -> Kept:
    """Return the place where this client keeps what it must know in the run's next round."""
    config, own = context.run_config, context.node_config
    simulated = Path(config["folder"], "kept", str(client_of(context)))
    return Kept(own.get("kept", simulated), config["run"])


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer which client this node is."""
    record = ConfigRecord({"client": client_of(context)})
    return Message(RecordDict({"node": record}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the node's own examples; what its client keeps stays on this machine."""

    def trained(asked: ConfigRecord) -> Reply:
        node, own = node_of(context), kept_of(context)
        return node.train(asked["round"], read(node.job, asked, own), own.load(asked["latest"]))

    return reply_to(message, context, trained)


@app.train(PHASE)
def take_part(message: Message, context: Context) -> Message:
    """Answer in one phase of a secure sum; in one of them the node trains."""

    def answered(asked: ConfigRecord) -> Reply:
        known = context.state.pop(SUM, {"round": 0})
        held = known["held"] if known["round"] == asked["round"] else ""
        node, own, kept = node_of(context), kept_of(context), {}
        if asked["phase"] == "mask":
            asked, kept = read(node.job, asked, own), own.load(asked["latest"])
        reply, held = node.answer(asked, held, kept)
        context.state[SUM] = ConfigRecord({"round": asked["round"], "held": held})
        return reply

    return reply_to(message, context, answered)


def reply_to(message: Message, context: Context, work: Callable[[ConfigRecord], Reply]) -> Message:
    """Return a node's reply as a message, having put away what its client keeps."""
    asked = message.content["request"]
    try:
        if asked["client"] != client_of(context):
            raise ValueError(f"client: got {asked['client']}, expected {client_of(context)}")
        reply = work(asked)
        if reply.kept:
            kept_of(context).save(asked["round"], asked["latest"], reply.kept)
    except Exception as error:
        reply = Reply(client_of(context), failure=reason(error))
    keeps = bool(reply.kept)  # or did before
    sent = {"payload": reply.payload, "crc": zlib.crc32(reply.payload)}
    body = {**sent, "failure": reply.failure or "", "keeps": keeps}
    return Message(RecordDict({"reply": ConfigRecord(body)}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the weights that came on the node's own reviews."""
    metrics = MetricRecord(node_of(context).evaluate(message.content["request"]))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
