"""Tensors to few bytes: what is kept, how a value is written, and a general compressor on top.

A payload is

    4 bytes   magic "FLC1"
    4 bytes   CRC-32 of all that follows, little endian
    4 bytes   CRC-32 of the names of `Keep` and `Format` with what of them a reader must know
    1 byte    1 if the body is compressed by Zstandard, else 0
    the body

and the body is a table of the tensors, sorted by name, then what is sent exactly, then the head
of the `Keep` and the values. The table has, as varints: the number of tensors, and for each the
length of its name, the name in UTF-8, the place of its dtype in `DTYPES`, the number of its
dimensions, and these. Tensors of floating point with more than one value are compressed. All
others are sent exactly, a strategy's single numbers among them: one byte says how, then ascending
integers as the steps between them, or the plain bytes.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
import zstandard
from torch import Tensor, nn

from fedlab_helpers.compression.bits import Reader, gaps, varints
from fedlab_helpers.compression.keep import Everything, Keep, Shape
from fedlab_helpers.compression.values import Float32, Format
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec, Update
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.wire import WireError

_MAGIC = b"FLC1"
_HEADER = struct.Struct("<4sIIB")
_SEALED = 8  # bytes that the checksum does not cover: the magic and itself
_MOST_TENSORS, _MOST_DIMS = 10_000, 16
_PLAIN, _ASCENDING = 0, 1
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


@dataclass(frozen=True)
class Compressed(Codec):
    """A codec that loses something, or packs what was lost already.

    Args:
        keep: which values are sent.
        write: how each is written.
        squeeze: level of Zstandard over the packed bytes, 1 to 22; None: not.
        max_values: a payload that claims more is refused before anything is allocated.
    """

    keep: Keep = field(default_factory=Everything)
    write: Format = field(default_factory=Float32)
    squeeze: int | None = None
    max_values: int = 1 << 22
    keeps_rows = True

    def __post_init__(self):
        most = zstandard.MAX_COMPRESSION_LEVEL
        fine = self.squeeze is None or 1 <= self.squeeze <= most
        require(fine, "squeeze", self.squeeze, f"1 to {most}, or None")

    @property
    def changes_only(self) -> bool:
        """Whether a part is sent, or signs, which makes sense of a change, not of whole weights."""
        return self.keep != Everything() or getattr(self.write, "changes_only", False)

    @property
    def contracts(self) -> bool:
        """Whether what is kept and how it is written each lose less than was there, as error
        feedback needs. Factors of low rank in few bits do; their product need not."""
        return self.keep.contracts and self.write.contracts

    @property
    def _kind(self) -> int:
        return zlib.crc32(f"{self.keep.kind} {self.write!r}".encode())

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload; `rng` None: what is random is drawn from torch's global generator.

        Raises:
            ValueError: a value is not finite, or beyond float32; a dtype cannot be sent; or there
                is more than `decode` would take.
        """
        state = {name: state[name].detach() for name in sorted(state)}
        floats = {n: _as_float32(n, t) for n, t in state.items() if loses(t.dtype, t.shape)}
        exact = [tensor for name, tensor in state.items() if name not in floats]
        self._require_size({name: tuple(tensor.shape) for name, tensor in state.items()})
        head, vectors = self.keep.split(floats, rng)
        written = [self.write.pack(vector, rng) for vector in vectors]
        body = b"".join([*_table(state), *map(_exactly, exact), head, *written])
        if self.squeeze is not None:
            body = zstandard.ZstdCompressor(level=self.squeeze).compress(body)
        rest = struct.pack("<IB", self._kind, self.squeeze is not None) + body
        return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest

    def _require_size(self, shapes: dict[str, Shape]) -> None:
        values = sum(map(_claim, shapes.values()))
        dims = max(map(len, shapes.values()), default=0)
        if values > self.max_values or dims > _MOST_DIMS or len(shapes) > _MOST_TENSORS:
            raise ValueError(
                f"{len(shapes)} tensors of up to {dims} dimensions with {values} values, expected "
                f"at most {_MOST_TENSORS}, {_MOST_DIMS} and max_values={self.max_values}"
            )

    def decode(self, payload: bytes) -> State:
        reader = Reader(self._body(payload))
        table = list(self._read_table(reader))
        whole = {
            name: _read_exactly(reader, shape, dtype)
            for name, shape, dtype in table
            if not loses(dtype, shape)
        }
        floats = [(name, shape, dtype) for name, shape, dtype in table if name not in whole]
        shapes = [shape for _, shape, _ in floats]
        try:
            joined = self.keep.join(reader, shapes, lambda n: self.write.unpack(reader, n))
        except (ValueError, RuntimeError) as error:
            if isinstance(error, WireError):
                raise
            raise WireError(f"not what this codec writes: {error}") from error
        if reader.left:
            raise WireError(f"{reader.left} bytes are left over")
        for (name, _, dtype), tensor in zip(floats, joined, strict=True):
            whole[name] = _to_dtype(tensor, dtype)
        return dict(sorted(whole.items()))

    def _body(self, payload: bytes) -> bytes:
        if len(payload) < _HEADER.size:
            raise WireError(f"{len(payload)} bytes are no payload, which has at least 13")
        magic, checksum, kind, squeezed = _HEADER.unpack_from(payload)
        if magic != _MAGIC:
            raise WireError(f"starts with {magic!r}, expected {_MAGIC!r}")
        if zlib.crc32(payload[_SEALED:]) != checksum:
            raise WireError("the checksum does not match: bytes were damaged on the way")
        if kind != self._kind or squeezed != (self.squeeze is not None):
            raise WireError(f"written by another codec than {self}")
        body = payload[_HEADER.size :]
        return _expand(body, 5 * self.max_values) if squeezed else body

    def _read_table(self, reader: Reader) -> Iterator[tuple[str, Shape, torch.dtype]]:
        """Yield name, shape and dtype of each tensor."""
        count, values, before = reader.varint(), 0, ""
        if count > _MOST_TENSORS:
            raise WireError(f"{count} tensors are claimed, expected at most {_MOST_TENSORS}")
        for place in range(count):
            try:
                name = reader.take(reader.varint()).decode()
            except UnicodeDecodeError as error:
                raise WireError(f"a name is not UTF-8: {error}") from error
            if place and name <= before:
                raise WireError(f"{name!r} comes after {before!r}, expected names to ascend")
            kind, dims = reader.varint(), reader.varint()
            if kind >= len(DTYPES) or dims > _MOST_DIMS:
                raise WireError(f"{name!r} claims dtype {kind} and {dims} dimensions")
            shape = tuple(reader.varints(dims).tolist())
            values += _claim(shape)
            if values > self.max_values:
                raise WireError(f"more than {self.max_values} values are claimed, by {name!r}")
            before = name
            yield name, shape, DTYPES[kind]


def _claim(shape: Shape) -> int:
    """Return how many values a shape claims; one of none counts by its longest side."""
    return max(prod(shape), *shape, 0) if shape else 1


def _table(tensors: State) -> Iterator[bytes]:
    yield varints([len(tensors)])
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            came, known = tensor.dtype, [str(dtype) for dtype in DTYPES]
            raise ValueError(f"{name!r} is {came}, expected one of {known}")
        sizes = [DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
        yield varints([len(name.encode())]) + name.encode() + varints(sizes)


def loses(dtype: torch.dtype, shape: Shape) -> bool:
    """Return whether a codec compresses such a tensor, or sends it exactly."""
    return dtype.is_floating_point and prod(shape) > 1


def _as_float32(name: str, tensor: Tensor) -> Tensor:
    values = tensor.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name!r} has a value that is NaN, infinite or beyond float32")
    return values


def _to_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in its own dtype, within that dtype's range."""
    if dtype not in (torch.float16, torch.bfloat16):
        return tensor.to(dtype)
    largest = torch.finfo(dtype).max
    return tensor.clamp(-largest, largest).to(dtype)


def _exactly(tensor: Tensor) -> bytes:
    if tensor.dtype in (torch.int32, torch.int64) and tensor.dim() == 1 and len(tensor):
        wide = tensor.long()
        if int(wide[0]) >= 0 and int(wide[-1]) < 2**31 and bool((wide[1:] > wide[:-1]).all()):
            return bytes([_ASCENDING]) + gaps(wide.numpy())
    if not tensor.numel():
        return bytes([_PLAIN])  # nothing cannot be seen as bytes
    # Of its own: as a part of another tensor, it may lie in steps, a single value too.
    plain = tensor.resolve_conj().clone(memory_format=torch.contiguous_format).reshape(-1)
    return bytes([_PLAIN]) + plain.view(torch.uint8).numpy().tobytes()


def _read_exactly(reader: Reader, shape: Shape, dtype: torch.dtype) -> Tensor:
    (how,) = reader.take(1)
    if how == _ASCENDING and len(shape) == 1:
        return torch.from_numpy(reader.positions(shape[0], 2**31)).to(dtype)
    if how != _PLAIN:
        raise WireError(f"{how} says how a tensor is sent, expected {_PLAIN} or {_ASCENDING}")
    raw = np.frombuffer(reader.take(prod(shape) * dtype.itemsize), dtype=np.uint8)
    if not len(raw):
        # No view of another dtype is made of nothing.
        return torch.zeros(shape, dtype=dtype, device="cpu")
    if dtype == torch.bool and (raw > 1).any():
        raise WireError(f"{int(raw.max())} is claimed to be true or false")
    return torch.from_numpy(raw.copy()).view(dtype).reshape(shape)


def _expand(body: bytes, most: int) -> bytes:
    """Return what Zstandard compressed, never more than `most` bytes."""
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if size > most:
            raise WireError(f"{size} bytes are claimed after expansion, expected at most {most}")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"not what Zstandard wrote: {error}") from error


def dense_size(model: nn.Module) -> int:
    """Return the bytes of one update of this model, every value of it as it is."""
    change = of_model(model)
    return len(wire.pack(Update(0, change, {}, 1, 1, (0.0,)), wire.dense(), change))
