"""Updates to bytes and back. What a client sends is what `send` returned; its cost is `len`.

A payload is: 4 bytes of magic, a CRC-32 of the rest (little endian), and named tensors in the
safetensors format, which holds no code. The CRC finds damage; the limits below keep malice cheap.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load
from torch import Tensor

from fedlab_helpers.core import rows
from fedlab_helpers.core.messages import Codec, Received, Update
from fedlab_helpers.core.state import State

_MAGIC = b"FLW1"
_HEADER = struct.Struct("<4sI")
_REPORT, _LOSSES, _BUFFERS = "report", "losses", "buffers"
_MAX_HEADER = 1 << 20  # bytes of JSON that name the tensors: some ten thousand of them
_MAX_DIMS = 16  # torch's reductions stop at 64, and crawl on a tensor of a hundred thousand
# torch's dtypes and safetensors' names of them, in the order in which it lays tensors out.
_NAMES = """uint64 U64 int64 I64 float64 F64 complex64 C64 float32 F32 uint32 U32 int32 I32
    bfloat16 BF16 float16 F16 uint16 U16 int16 I16 float8_e5m2fnuz F8_E5M2FNUZ float8_e4m3fnuz
    F8_E4M3FNUZ float8_e4m3fn F8_E4M3 float8_e5m2 F8_E5M2 int8 I8 uint8 U8 bool BOOL""".split()
_DTYPES = [getattr(torch, name) for name in _NAMES[::2]]


class WireError(ValueError):
    """Bytes that are not a payload of the expected kind; the message says what is wrong."""


@dataclass(frozen=True)
class Tensors:
    """Sends tensors as they are; `keeps_rows`: row-sparse ones as their touched rows, not whole."""

    keeps_rows: bool

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload: 8 bytes, a JSON header, and the values of each tensor."""
        head, names = _header(state)
        whole = (state[name].cpu().contiguous().reshape(1, -1) for name in names)
        parts, checksum = [head, *(t.view(torch.uint8).numpy() for t in whole)], 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return b"".join([_HEADER.pack(_MAGIC, checksum), *parts])

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


def _header(state: State) -> tuple[bytes, list[str]]:
    """Return what safetensors writes before the values, and the names in the order in which these
    lie."""
    names = sorted(state, key=lambda name: (_DTYPES.index(state[name].dtype), name))
    specs, end = {}, 0
    for name in names:
        tensor, begin, end = state[name], end, end + state[name].nbytes
        kind = _NAMES[2 * _DTYPES.index(tensor.dtype) + 1]
        specs[name] = {"dtype": kind, "shape": [*tensor.shape], "data_offsets": [begin, end]}
    text = json.dumps(specs, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, names


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
    """Return the codec that leaves out embedding rows the client's examples never used.

    Nothing is lost: such a row's change is zero. The list of rows tells the server which words the
    client's examples contain; the zeros of a dense payload tell it nearly as much.
    """
    return Tensors(keeps_rows=True)


def pack(update: Update, codec: Codec, like: State, rng: torch.Generator | None = None) -> bytes:
    """Return an update on the CPU as bytes; `like` are the weights that the client received, which
    give the shapes of whole tensors, and `rng` is of a codec that draws."""
    return codec.encode(to_tensors(update, codec, like), rng)


def send(
    update: Update, codec: Codec, kept: State, like: State, rng: torch.Generator | None = None
) -> tuple[bytes, State]:
    """Return what `pack` does, and what the client keeps for its next update, as the codec says;
    `kept` is what this returned in the client's last accepted round, else {}."""
    if remembering := getattr(codec, "pack", None):
        return remembering(update, kept, like, rng)
    return pack(update, codec, like, rng), {}


def to_tensors(update: Update, codec: Codec, like: State) -> State:
    """Return an update as the named tensors that are encoded: "delta.…", "rows.…", "extra.…", the
    report, and, as bits in integers, so that no codec rounds them, losses and buffers."""
    if not codec.keeps_rows:
        update = rows.make_whole(update, like)
    tensors = {f"delta.{name}": tensor for name, tensor in update.delta.items()}
    tensors |= {f"rows.{name}": rows.int() for name, rows in update.touched_rows.items()}
    tensors |= {f"extra.{name}": tensor for name, tensor in update.extra.items()}
    tensors[_REPORT] = torch.tensor([update.examples, update.steps], device="cpu")
    losses = torch.tensor(update.losses, dtype=torch.float32, device="cpu")
    tensors[_LOSSES] = losses.view(torch.int32)
    if update.buffers:
        payload = bytearray(dense().encode(update.buffers))
        tensors[_BUFFERS] = torch.frombuffer(payload, dtype=torch.uint8)
    return tensors


def unpack(payload: bytes, codec: Codec, client: int) -> Update:
    """Return the update in a payload; whether it fits the model is `Update.require_fit`'s to say.

    Args:
        payload: what `send` returned; for anything else WireError is raised.
        codec: the one it was packed with.
        client: who sent it: known from the connection, not from the payload.
    """
    tensors = dict(codec.decode(payload))
    report = _vector(_REPORT, tensors.pop(_REPORT, None), torch.int64)
    losses = _vector(_LOSSES, tensors.pop(_LOSSES, None), torch.int32).view(torch.float32)
    buffers = tensors.pop(_BUFFERS, None)
    if buffers is not None:
        buffers = dense().decode(_vector(_BUFFERS, buffers, torch.uint8).numpy().tobytes())
    if len(report) != 2:
        raise WireError(f"{_REPORT!r} has {len(report)} numbers, expected examples and steps")
    parts: dict[str, State] = {"delta": {}, "rows": {}, "extra": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind not in parts:
            raise WireError(f"{name!r} is no part of an update, expected one of {sorted(parts)}")
        parts[kind][rest] = tensor
    touched = {n: _vector(f"rows.{n}", t, torch.int32).long() for n, t in parts["rows"].items()}
    told = (*report.tolist(), tuple(losses.tolist()))
    return Update(client, parts["delta"], touched, *told, parts["extra"], buffers or {})


def size(state: State) -> int:
    """Return `len(dense().encode(state))` without writing it; names, dtypes, shapes decide it."""
    head, _ = _header(state)
    return _HEADER.size + len(head) + sum(tensor.nbytes for tensor in state.values())


@dataclass(frozen=True, eq=False)
class Downlink:
    """What the server sends down: the weights, whole, each time, to every client it asks.

    Their encoding loses nothing: clients here get what they would decode, as copies, but for the
    `table`, of which each takes its rows while the round lasts. The bytes are those of the
    encoding, counted and not written: a million words take longer to write than to train.

    Args:
        held: the weights that clients hold once they are up to date.
        beside: what a strategy sends beside them, as those clients hold it.
        table: the parameter of which clients take the rows that they touch, if any.
    """

    held: State
    beside: State = field(default_factory=dict)
    table: str | None = None

    def deliver(self, cohort: Sequence[int]) -> "tuple[Received, Downlink, int]":
        """Return what clients hold once they are up to date, the link, and the bytes it took."""
        parts = (
            {n: t if n == self.table else t.contiguous().clone() for n, t in sorted(part.items())}
            for part in (self.held, self.beside)
        )
        sent = sum(size(part) for part in (self.held, self.beside) if part)
        return Received(*parts), self, sent * len(cohort)

    def advance(self, params: State, extra: State, rng: torch.Generator) -> "Downlink":
        """Return the link after a round: the server's new weights, and what goes beside them."""
        return replace(self, held=params, beside=extra)

    def without(self, clients: Iterable[int]) -> "Downlink":
        """Return the link where it is not known what these clients hold: they did not answer."""
        return self

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
