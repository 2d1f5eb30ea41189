"""Flower's ClientApp: what a SuperNode runs for each message."""

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlab_helpers import wire
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import Node

KEPT = "kept"  # the record of a node's context that holds what its client keeps between rounds
app = ClientApp()


def node_of(context: Context) -> Node:
    """Return this machine's node: which client it is and where its reviews lie is its own
    configuration; the job is the run's."""
    torch.set_num_threads(1)
    job = Job.from_json(context.run_config["job"])
    own = context.node_config
    return Node.owning(job, int(own["client"]), own["reviews"])


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer which client this node is."""
    record = ConfigRecord({"client": int(context.node_config["client"])})
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
