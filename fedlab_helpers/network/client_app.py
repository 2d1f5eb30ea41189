"""Flower's ClientApp: what a SuperNode runs for each message."""

import json

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlab_helpers import wire
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import Node

KEPT = "kept"  # the record of a node's context that holds what its client keeps between rounds
app = ClientApp()


def client_of(context: Context) -> int:
    """Return which client this node is, as its own configuration says; a simulated node has a
    number."""
    own = context.node_config
    return int(own["client"] if "client" in own else own["partition-id"])


def node_of(context: Context) -> Node:
    """Return this machine's node. Its own configuration says where its reviews lie; those of
    simulated nodes lie on one machine, as the run's says. The job is the run's."""
    torch.set_num_threads(1)
    config, client = context.run_config, client_of(context)
    simulated = json.loads(config["simulated"])
    own = simulated[client] if simulated else context.node_config["reviews"]
    return Node.owning(Job.from_json(config["job"]), client, own)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer which client this node is."""
    record = ConfigRecord({"client": client_of(context)})
    return Message(RecordDict({"node": record}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the node's own reviews; what its client keeps stays in the node's context."""
    asked = message.content["request"]
    kept = {owner: wire.dense().decode(part) for owner, part in context.state.get(KEPT, {}).items()}
    reply = node_of(context).train(asked["round"], asked, kept)
    if reply.failure is None:
        stays = {owner: wire.dense().encode(part) for owner, part in reply.kept.items() if part}
        context.state[KEPT] = ConfigRecord(stays)
    body = ConfigRecord({"payload": reply.payload, "failure": reply.failure or ""})
    return Message(RecordDict({"reply": body}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the weights that came on the node's own reviews."""
    metrics = MetricRecord(node_of(context).evaluate(message.content["request"]))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
