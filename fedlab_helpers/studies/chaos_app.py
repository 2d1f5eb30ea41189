"""The app of the nodes of `chaos`: that of every network, with some messages late or damaged."""

import json
import os
import time

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from fedlab_helpers.network import client_app
from fedlab_helpers.studies.chaos import PLAN, Event


class Damaging(ClientApp):
    """The app of every node, with messages that are late or damaged as `PLAN` says."""

    def __call__(self, message: Message, context: Context) -> Message:
        asked = message.content.get("request", {})
        about = (asked.get("round"), asked.get("client"))
        if "phase" in asked and asked["phase"] != "mask":
            about = None
        for event in (Event(**each) for each in json.loads(os.environ[PLAN])):
            if (event.round, event.client) != about:
                continue
            if event.what == "slow":
                time.sleep(event.seconds)
            elif event.what == "damaged request":
                damage(asked, event.seconds)
            else:
                answer = client_app.app(message, context)
                body = answer.content["reply"]
                cut = event.what == "short reply"
                sent = body["payload"]
                body["payload"] = sent[: len(sent) // 2] if cut else flipped(sent, event.seconds)
                return answer
        return client_app.app(message, context)


def damage(asked: ConfigRecord, where: float) -> None:
    """Turn over one bit of what the client is to train from: weights, or their last change."""
    if "weights" in asked:
        asked["weights"] = flipped(asked["weights"], where)
    elif changes := asked["changes"]:
        asked["changes"] = [*changes[:-1], flipped(changes[-1], where)]
    else:  # it holds the newest weights
        asked["crc"] ^= 1


def flipped(content: bytes, where: float) -> bytes:
    """Return bytes with one bit turned over, somewhere."""
    if not content:
        return content
    changed = bytearray(content)
    changed[int(where * 7919) % len(content)] ^= 1
    return bytes(changed)


app = Damaging()
