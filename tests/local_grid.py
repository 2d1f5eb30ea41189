"""A Flower grid in this process: it calls the ClientApp itself, so that apps are tested quickly."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

from flwr.app import Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity


class LocalGrid:
    """Nodes 1, 2, … with an app each; `contexts` may be changed between rounds.

    Args:
        app: answers a message, given the node's context.
        configs: of each node.
        run_config: of the run.
    """

    def __init__(self, app: Callable, configs: Iterable[dict], run_config: dict):
        # Messages ask where they are made.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.app, self.replies, self.names = app, {}, {}
        self.contexts = {
            number: Context(1, number, config, RecordDict(), run_config)
            for number, config in enumerate(configs, start=1)
        }

    def get_nodes(self):
        return [
            SimpleNamespace(node_id=n, name=self.names.get(n, ""), last_activated_at=f"{n:03}")
            for n in self.contexts
        ]

    def push_messages(self, messages):
        ids = []
        for message in messages:
            number = message.object_id
            message.metadata.__dict__["_message_id"] = number
            ids.append(number)
            try:
                answer = self.app(message, self.contexts[message.metadata.dst_node_id])
            except Exception as error:
                answer = Message(Error(2, f"{type(error)}: {error}"), reply_to=message)
            if answer is not None:
                self.replies[number] = answer
        return ids

    def pull_messages(self, message_ids):
        there = [number for number in message_ids if number in self.replies]
        return [self.replies.pop(number) for number in there]
