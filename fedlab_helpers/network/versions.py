"""Weights that come as changes of those that a client holds: what the server sends, what it does.

The books are those of `compression.downlink`: a client that failed is sent all of it again. So it
may refuse whatever it cannot be sure of, and loses one round.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedlab_helpers.core.client import everything
from fedlab_helpers.core.messages import ClientState, Received
from fedlab_helpers.core.rounds import shared_weights
from fedlab_helpers.core.state import State
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.kept import Kept
from fedlab_helpers.network.node import pack, unpack


class Letters:
    """What each client of a round is sent; packed once for all who are sent the same."""

    def __init__(self, received: Received):
        self._received, self._whole, self._about = received, pack(received), {}
        if received.version is not None:
            self._about = {"version": received.version}
            self._about["crc"] = _crc(self._whole | self._about)

    def to(self, client: int) -> dict[str, Any]:
        """Return the letter to a client: the weights whole, or the changes that it missed."""
        missed = self._received.missed.get(client)
        if missed is None:
            return self._whole | self._about
        return {"changes": list(missed), "buffers": self._whole["buffers"], **self._about}


def read(job: Job, letter: Mapping[str, Any], kept: Kept) -> Mapping[str, Any]:
    """Return a letter with the weights whole; where changes may follow, hold them for that.

    Raises:
        ValueError: the changes are not those of what this client holds, or what comes of them is
            not what the server has.
    """
    if "version" not in letter:
        return letter
    version, received = letter["version"], None
    if "changes" in letter:
        received = _moved(job, version, letter["changes"], kept.held())
        letter = {**letter, **pack(received), "buffers": letter["buffers"]}
    if _crc(letter) != letter["crc"]:
        raise ValueError(f"weights: not what the server has as version {version}")
    received = received or unpack(letter)
    number = {"number": torch.tensor(version)}
    kept.hold({"weights": received.weights, "extra": received.extra, "version": number})
    return letter


def _moved(job: Job, version: int, changes: Sequence[bytes], held: ClientState) -> Received:
    """Return weights, and what is beside them, after those changes that are not in them yet."""
    own = int(held["version"]["number"]) if held else 0
    if not 0 <= version - own <= len(changes):
        came = f"changes from version {version - len(changes)} to {version} came"
        raise ValueError(f"weights: {came}, and this client holds version {own}")
    weights, extra = (held["weights"], held.get("extra", {})) if held else _first(job)
    downlink = job.new_downlink()
    for change in changes[len(changes) - (version - own) :]:
        weights, extra = downlink.applied(change, weights, extra)
    return Received(weights, extra)


def _first(job: Job) -> tuple[State, State]:
    """Return what all start from, as each can make it on its own."""
    weights, _ = shared_weights(job.new_model(), everything)
    strategy = job.new_strategy()
    return weights, strategy.broadcast(strategy.init(weights))


def _crc(whole: Mapping[str, Any]) -> int:
    """Return a checksum of weights, what is beside them, and their version."""
    number = zlib.crc32(str(whole["version"]).encode())
    return zlib.crc32(whole["extra"], zlib.crc32(whole["weights"], number))
