"""Updates to bytes and back. What a client sends is what `pack` returned; its cost is `len`.

A payload is: 4 bytes of magic, a CRC-32 of the rest (little endian), and named tensors in the
safetensors format, which holds no code. The CRC finds damage; the limits below keep malice cheap.
Where a model has buffers, they travel beside what the codec made, as they are: "FLB1", the length
of the codec's payload (4 bytes, little endian), that payload, and a payload with the buffers.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load, save
from torch import Tensor

from fedlab_helpers.core import rows
from fedlab_helpers.core.messages import Codec, Received, Update
from fedlab_helpers.core.state import State

_MAGIC, _BUFFERED = b"FLW1", b"FLB1"
_HEADER = struct.Struct("<4sI")
_REPORT, _LOSSES = "report", "losses"
_MAX_HEADER = 1 << 20  # bytes of JSON that name the tensors: some ten thousand of them
_MAX_DIMS = 16  # torch's reductions stop at 64, and crawl on a tensor of a hundred thousand


class WireError(ValueError):
    """Bytes that are not a payload of the expected kind; the message says what is wrong."""


@dataclass(frozen=True)
class Tensors:
    """Sends tensors as they are; `keeps_rows`: row-sparse ones as their touched rows, not whole."""

    keeps_rows: bool

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload: 8 bytes, a JSON header, and the values of each tensor."""
        body = save({name: tensor.contiguous() for name, tensor in state.items()})
        return _HEADER.pack(_MAGIC, zlib.crc32(body)) + body

    def decode(self, payload: bytes) -> State:
        """Return the tensors of a payload, sorted by name. Raises WireError for anything else."""
        if len(payload) < _HEADER.size:
            raise WireError(f"{len(payload)} bytes are no payload, which has 8 or more")
        (magic, checksum), body = _HEADER.unpack_from(payload), payload[_HEADER.size :]
        if magic != _MAGIC:
            raise WireError(f"starts with {magic!r}, expected {_MAGIC!r}")
        if zlib.crc32(body) != checksum:
            raise WireError("the checksum does not match: bytes were damaged on the way")
        return _load(body)


def _load(body: bytes) -> State:
    if (size := int.from_bytes(body[:8], "little")) > _MAX_HEADER:
        raise WireError(f"its header claims {size} bytes, expected at most {_MAX_HEADER}")
    try:
        tensors = load(body)
    except Exception as error:  # the two libraries have half a dozen ways to say no
        raise WireError(f"not a set of tensors: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dim() > _MAX_DIMS:
            raise WireError(f"{name!r} has {tensor.dim()} dimensions, expected at most {_MAX_DIMS}")
    # safetensors returns them in an order of its own, another each time: noise that a transform
    # draws tensor by tensor, or a norm that it sums, would then not repeat.
    return dict(sorted(tensors.items()))


def dense() -> Tensors:
    """Return the codec that sends every value of every tensor."""
    return Tensors(keeps_rows=False)


def touched_rows() -> Tensors:
    """Return the codec that leaves out embedding rows the client's reviews never used.

    Nothing is lost: such a row's change is zero. The list of rows tells the server which words the
    client's reviews contain; the zeros of a dense payload tell it nearly as much.
    """
    return Tensors(keeps_rows=True)


def pack(update: Update, codec: Codec, like: State, rng: torch.Generator | None = None) -> bytes:
    """Return the bytes a client sends of an update on the CPU; `like` are the weights that it
    received, which give the shapes of whole tensors, and `rng` is of a codec that draws."""
    return _with_buffers(codec.encode(to_tensors(update, codec, like), rng), update)


def send(
    update: Update, codec: Codec, kept: State, like: State, rng: torch.Generator | None = None
) -> tuple[bytes, State]:
    """Return what `pack` does, and what the client keeps for its next update, as the codec says;
    `kept` is what this returned in the client's last accepted round, else {}."""
    if remembering := getattr(codec, "pack", None):
        payload, kept = remembering(update, kept, like, rng)
        return _with_buffers(payload, update), kept
    return pack(update, codec, like, rng), {}


def _with_buffers(payload: bytes, update: Update) -> bytes:
    if not update.buffers:
        return payload
    return _HEADER.pack(_BUFFERED, len(payload)) + payload + dense().encode(update.buffers)


def _split(payload: bytes) -> tuple[bytes, State]:
    """Return the codec's part of a payload, and the buffers that came beside it."""
    if not payload.startswith(_BUFFERED):
        return payload, {}
    if len(payload) < _HEADER.size:
        raise WireError(f"{len(payload)} bytes are too few for a payload with buffers")
    end = _HEADER.size + _HEADER.unpack_from(payload)[1]
    if end > len(payload):
        raise WireError(f"claims {end} bytes before its buffers, but has {len(payload)}")
    return payload[_HEADER.size : end], dense().decode(payload[end:])


def to_tensors(update: Update, codec: Codec, like: State) -> State:
    """Return an update as the named tensors that are encoded: "delta.…", "rows.…", "extra.…" and
    the report. The losses are the bits of float32 as integers, so that no codec rounds them."""
    if not codec.keeps_rows:
        update = rows.make_whole(update, like)
    tensors = {f"delta.{name}": tensor for name, tensor in update.delta.items()}
    tensors |= {f"rows.{name}": rows.int() for name, rows in update.touched_rows.items()}
    tensors |= {f"extra.{name}": tensor for name, tensor in update.extra.items()}
    tensors[_REPORT] = torch.tensor([update.examples, update.steps], device="cpu")
    tensors[_LOSSES] = torch.tensor(update.losses, dtype=torch.float32, device="cpu").view(
        torch.int32
    )
    return tensors


def unpack(payload: bytes, codec: Codec, client: int) -> Update:
    """Return the update in a payload; whether it fits the model is `Update.require_fit`'s to say.

    Args:
        payload: what `pack` returned; for anything else WireError is raised.
        codec: the one it was packed with.
        client: who sent it: known from the connection, not from the payload.
    """
    body, buffers = _split(payload)
    tensors = dict(codec.decode(body))
    report = _vector(_REPORT, tensors.pop(_REPORT, None), torch.int64)
    losses = _vector(_LOSSES, tensors.pop(_LOSSES, None), torch.int32)
    if len(report) != 2:
        raise WireError(f"{_REPORT!r} has {len(report)} numbers, expected examples and steps")
    parts: dict[str, State] = {"delta": {}, "rows": {}, "extra": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind not in parts:
            raise WireError(f"{name!r} is no part of an update, expected one of {sorted(parts)}")
        parts[kind][rest] = tensor
    touched = {
        name: _vector(f"rows.{name}", ids, torch.int32).long()
        for name, ids in parts["rows"].items()
    }
    examples, steps = report.tolist()
    losses = tuple(losses.view(torch.float32).tolist())
    return Update(client, parts["delta"], touched, examples, steps, losses, parts["extra"], buffers)


def encode_parts(received: Received) -> tuple[bytes, bytes, bytes]:
    """Return what the server sends, as bytes: weights, extra and buffers; b"" for what is empty."""
    parts = (received.weights, received.extra, received.buffers)
    return tuple(dense().encode(part) if part else b"" for part in parts)


def decode_parts(payloads: Iterable[bytes]) -> Received:
    """Return what `encode_parts` was given. Raises WireError for bytes that are damaged."""
    return Received(*(dense().decode(part) if part else {} for part in payloads))


@dataclass(frozen=True, eq=False)
class Downlink:
    """What the server sends down: the weights, whole, each time, to every client it asks.

    Args:
        held: the weights that clients hold once they are up to date.
        beside: what a strategy sends beside them, as those clients hold it.
    """

    held: State
    beside: State = field(default_factory=dict)

    def deliver(self, cohort: Sequence[int]) -> "tuple[Received, Downlink, int]":
        """Return what clients hold once they are up to date, the link, and the bytes it took."""
        payloads = encode_parts(Received(self.held, self.beside))
        return decode_parts(payloads), self, sum(map(len, payloads)) * len(cohort)

    def advance(self, params: State, extra: State, rng: torch.Generator) -> "Downlink":
        """Return the link after a round: the server's new weights, and what goes beside them."""
        return replace(self, held=params, beside=extra)

    def to_state(self) -> State:
        """Return what a checkpoint needs beside the server's weights."""
        return {}

    def restored(self, state: State, params: State, extra: State, version: int) -> "Downlink":
        """Return the link after so many rounds, from what `to_state` returned then."""
        return replace(self, held=params, beside=extra)


def _vector(name: str, tensor: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the tensor if it is one-dimensional and of this dtype, else raise WireError."""
    if tensor is None:
        raise WireError(f"{name!r} is missing")
    if tensor.dtype != dtype or tensor.dim() != 1:
        came = f"{tuple(tensor.shape)} {tensor.dtype}"
        raise WireError(f"{name!r} is {came}, expected one dimension of {dtype}")
    return tensor
