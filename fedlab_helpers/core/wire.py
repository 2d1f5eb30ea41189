"""Updates to bytes and back. What a client sends is what `pack` returned; its cost is `len`.

A payload is: 4 bytes of magic, a CRC-32 of the rest (little endian), and named tensors in the
safetensors format, which holds no code. The CRC finds damage; the limits below keep malice cheap.
"""

import struct
import zlib
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.updates import Codec, Update

_MAGIC = b"FLW1"
_HEADER = struct.Struct("<4sI")
_REPORT, _LOSSES = "report", "losses"
_MAX_HEADER = 1 << 20  # bytes of JSON that name the tensors: some ten thousand of them
_MAX_DIMS = 16  # torch's reductions stop at 64, and crawl on a tensor of a hundred thousand


class WireError(ValueError):
    """Bytes that are not a payload of the expected kind; the message says what is wrong."""


@dataclass(frozen=True)
class Tensors:
    """Sends tensors as they are, without loss.

    Args:
        keeps_rows: whether a row-sparse tensor is sent as its touched rows, or made whole.
    """

    keeps_rows: bool

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload: 8 bytes, a JSON header, and the values of each tensor."""
        body = save({name: tensor.contiguous() for name, tensor in state.items()})
        return _HEADER.pack(_MAGIC, zlib.crc32(body)) + body

    def decode(self, payload: bytes) -> State:
        """Return the tensors of a payload, sorted by name. Raises WireError for anything else."""
        if len(payload) < _HEADER.size:
            raise WireError(
                f"{len(payload)} bytes are no payload, which has {_HEADER.size} or more"
            )
        magic, checksum = _HEADER.unpack_from(payload)
        body = payload[_HEADER.size :]
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


def make_whole(update: Update, like: State) -> Update:
    """Return the update with each row-sparse tensor written out, zeros in the untouched rows."""
    delta = dict(update.delta)
    for name, rows in update.touched_rows.items():
        delta[name] = torch.zeros_like(like[name]).index_copy_(0, rows, delta[name])
    return replace(update, delta=delta, touched_rows={})


def pack(update: Update, codec: Codec, like: State, rng: torch.Generator | None = None) -> bytes:
    """Return the bytes a client sends.

    Args:
        update: on the CPU.
        codec: turns named tensors into bytes.
        like: the weights the client received; they give the shapes of whole tensors.
        rng: of a codec that draws at random.
    """
    return codec.encode(to_tensors(update, codec, like), rng)


def to_tensors(update: Update, codec: Codec, like: State) -> State:
    """Return an update as the named tensors that are encoded: "delta.…", "rows.…", "extra.…" and
    the report. The losses are the bits of float32 as integers, so that no codec rounds them."""
    if not codec.keeps_rows:
        update = make_whole(update, like)
    tensors = {f"delta.{name}": tensor for name, tensor in update.delta.items()}
    tensors |= {f"rows.{name}": rows.int() for name, rows in update.touched_rows.items()}
    tensors |= {f"extra.{name}": tensor for name, tensor in update.extra.items()}
    tensors[_REPORT] = torch.tensor([update.examples, update.steps])
    tensors[_LOSSES] = torch.tensor(update.losses, dtype=torch.float32).view(torch.int32)
    return tensors


def unpack(payload: bytes, codec: Codec, client: int) -> Update:
    """Return the update in a payload; whether it fits the model is `Update.require_fit`'s to say.

    Args:
        payload: what `pack` returned, or anything at all.
        codec: the one it was packed with.
        client: who sent it: known from the connection, not from the payload.

    Raises:
        WireError: the bytes are not such a payload.
    """
    tensors = dict(codec.decode(payload))
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
    rows = {
        name: _vector(f"rows.{name}", ids, torch.int32).long()
        for name, ids in parts["rows"].items()
    }
    examples, steps = report.tolist()
    losses = tuple(losses.view(torch.float32).tolist())
    return Update(client, parts["delta"], rows, examples, steps, losses, parts["extra"])


def dense_size(model: nn.Module) -> int:
    """Return the bytes of one update of this model, every value of it as it is."""
    change = of_model(model)
    return len(pack(Update(0, change, {}, 1, 1, (0.0,)), dense(), change))


def _vector(name: str, tensor: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the tensor if it is one-dimensional and of this dtype, else raise WireError."""
    if tensor is None:
        raise WireError(f"{name!r} is missing")
    if tensor.dtype != dtype or tensor.dim() != 1:
        came = f"{tuple(tensor.shape)} {tensor.dtype}"
        raise WireError(f"{name!r} is {came}, expected one dimension of {dtype}")
    return tensor
