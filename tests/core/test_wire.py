"""Updates to bytes and back; whatever else comes in is refused quickly, by name."""

import json
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from fedlab_helpers.core import rows, wire
from fedlab_helpers.core.messages import RefusedUpdate, Update
from fedlab_helpers.strategies import fedavg, rowwise, uniform

LIKE = {"embedding.weight": torch.zeros(5, 2), "bias": torch.zeros(3), "steps": torch.tensor(0)}
PLAIN = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
PLAIN += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
ODD = [torch.complex64, torch.uint64, torch.uint32, torch.uint16]
ODD += [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
ANY_NAME = st.text(max_size=8)
CODECS = [wire.dense(), wire.touched_rows()]


def payload(header, body: bytes = b"") -> bytes:
    """Return a payload with a checksum that is right, whatever stands in it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return sealed(struct.pack("<Q", len(text)) + text + body)


def sealed(body: bytes) -> bytes:
    return struct.pack("<4sI", b"FLW1", zlib.crc32(body)) + body


def one(dtype: str, shape: list, offsets: list) -> dict:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@dataclass(frozen=True)
class Holds:
    """A codec whose payloads all decode to the same tensors."""

    tensors: dict
    keeps_rows: bool = True

    def encode(self, state, rng=None):
        return b""

    def decode(self, payload):
        return dict(self.tensors)


def an_update(**changes) -> Update:
    values = {
        "client": 3,
        "delta": {
            "embedding.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            "bias": torch.tensor([0.5, -0.5, 0.0]),
            "steps": torch.tensor(7),
        },
        "touched_rows": {"embedding.weight": torch.tensor([1, 4])},
        "examples": 11,
        "steps": 2,
        "losses": (0.75, 0.5),
    }
    return Update(**values | changes)


@st.composite
def states(draw, dtypes=PLAIN, names=ANY_NAME):
    """Draw named tensors of any bits, of 0 to 3 dimensions, empty ones included."""
    state = {}
    for name in draw(st.lists(names, max_size=4, unique=True)):
        if name == "__metadata__":  # safetensors keeps this name for itself
            continue
        dtype = draw(st.sampled_from(dtypes))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = int(np.prod(shape)) * dtype.itemsize
        raw = torch.frombuffer(
            bytearray(draw(st.binary(min_size=size, max_size=size)) + b"\0"), dtype=torch.uint8
        )[:size].clone()
        values = raw % 2 if dtype is torch.bool else raw
        state[name] = values.view(dtype).reshape(shape)
    return state


@given(states(PLAIN + ODD), st.sampled_from(CODECS))
def test_what_is_encoded_comes_back_bit_for_bit(bits, state, codec):
    assert bits(codec.decode(codec.encode(state))) == bits(state)


@given(states(PLAIN + ODD), st.sampled_from(CODECS))
def test_a_payload_holds_what_safetensors_itself_would_write(state, codec):
    assert codec.encode(state) == sealed(save(state))


LAID_OUT = {
    "turned": lambda whole: whole.T,
    "every second": lambda whole: whole[:, ::2],
    "one value, seen often": lambda whole: whole[:1, :1].expand(3, 4),
    "a scalar": lambda whole: whole[1, 2],
    "none, of no stride": lambda whole: torch.from_numpy(np.zeros(0, np.float32)),
    "none, turned": lambda whole: whole[:0].T,
    "under autograd": lambda whole: whole.clone().requires_grad_(),
}


@pytest.mark.parametrize("kind", LAID_OUT)
def test_however_a_tensor_lies_in_memory_its_values_are_sent(kind):
    tensor = LAID_OUT[kind](torch.arange(12.0).reshape(3, 4))
    sent = wire.dense().encode({"a": tensor, "b": torch.tensor(7)})
    plain = {"a": torch.tensor(tensor.tolist()).reshape(tensor.shape), "b": torch.tensor(7)}
    assert sent == sealed(save(plain))


def test_what_is_decoded_is_its_owners_to_change():
    """In place, as a strategy may: neither the payload nor another tensor changes."""
    state = {name: torch.arange(4.0) for name in "abc"}
    sent = wire.dense().encode(state)
    before = bytes(bytearray(sent))
    first, second = wire.dense().decode(sent), wire.dense().decode(sent)
    first["b"].fill_(9)
    assert sent == before
    for came in (first["a"], first["c"], *second.values()):
        assert came.tolist() == [0, 1, 2, 3]


def test_a_payload_does_not_change_with_the_tensors_it_was_made_of():
    values = torch.ones(3)
    sent = wire.dense().encode({"a": values})
    values.zero_()
    assert wire.dense().decode(sent)["a"].tolist() == [1, 1, 1]


def test_payload_is_magic_checksum_and_safetensors():
    sent = wire.dense().encode({"a": torch.tensor([1.0, -2.0])})
    body = sent[8:]
    assert sent[:4] == b"FLW1"
    assert int.from_bytes(sent[4:8], "little") == zlib.crc32(body)
    assert sent.endswith(struct.pack("<2f", 1, -2))
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    assert header["a"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_tensors_come_back_in_the_order_of_their_names():
    """Noise that is drawn tensor by tensor repeats only if they come in the same order."""
    names = [f"{letter}{number}" for number in range(9) for letter in "zax"]
    sent = wire.dense().encode({name: torch.zeros(1) for name in names})
    assert list(wire.dense().decode(sent)) == sorted(names)


def test_tensors_that_are_views_can_be_sent(bits):
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"turned": whole.T, "top": whole[0], "bottom": whole[1]}
    assert bits(wire.dense().decode(wire.dense().encode(state))) == bits(state)


def test_an_update_comes_back_whole(bits):
    sent = an_update(extra={"control": torch.tensor([[2.0]])})
    came = wire.unpack(wire.pack(sent, wire.touched_rows(), LIKE), wire.touched_rows(), 3)
    came.require_fit(LIKE)
    for field in ("delta", "touched_rows", "extra"):
        assert bits(getattr(came, field)) == bits(getattr(sent, field))
    assert (came.client, came.examples, came.steps, came.losses) == (3, 11, 2, (0.75, 0.5))


@given(
    rows=st.lists(st.integers(0, 4), unique=True).map(sorted),
    losses=st.lists(st.floats(0, 9, width=32), min_size=1, max_size=3),
    extra=states(),
)
def test_any_update_survives_the_trip(bits, rows, losses, extra):
    table = torch.arange(10.0).reshape(5, 2)
    delta = an_update().delta | {"embedding.weight": table[rows]}
    touched = {"embedding.weight": torch.tensor(rows, dtype=torch.int64)}
    sent = an_update(delta=delta, touched_rows=touched, losses=tuple(losses), extra=extra)
    came = wire.unpack(wire.pack(sent, wire.touched_rows(), LIKE), wire.touched_rows(), 0)
    assert bits(came.delta) == bits(delta)
    assert bits(came.touched_rows) == bits(touched)
    assert bits(came.extra) == bits(extra)
    assert came.losses == tuple(losses)


def test_rows_are_written_out_where_the_codec_sends_whole_tensors():
    came = wire.unpack(wire.pack(an_update(), wire.dense(), LIKE), wire.dense(), 0)
    assert came.touched_rows == {}
    expected = [[0, 0], [1, 2], [0, 0], [0, 0], [3, 4]]
    assert came.delta["embedding.weight"].tolist() == expected


def test_make_whole_leaves_the_update_it_was_given_alone():
    update = an_update()
    whole = rows.make_whole(update, LIKE)
    assert whole.delta["embedding.weight"].tolist() == [[0, 0], [1, 2], [0, 0], [0, 0], [3, 4]]
    assert whole.delta["bias"] is update.delta["bias"]
    assert update.delta["embedding.weight"].shape == (2, 2)
    assert update.touched_rows.keys() == {"embedding.weight"}


def test_touched_rows_cost_less_than_the_whole_table():
    like = {"embedding.weight": torch.zeros(1000, 8)}
    delta, rows = {"embedding.weight": torch.ones(2, 8)}, torch.tensor([5, 900])
    update = Update(0, delta, {"embedding.weight": rows}, 1, 1, (1.0,))
    dense, sparse = (len(wire.pack(update, codec, like)) for codec in CODECS)
    assert dense - sparse == pytest.approx((1000 - 2) * 8 * 4, abs=200)


DEEP = b'{"a":' + b"[" * 100_000
FITS_BUT_FOR_ITS_EXTRA = {
    "report": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
    "losses": {"dtype": "I32", "shape": [1], "data_offsets": [16, 20]},
    "extra.x": {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [20, 24]},
}
HOSTILE = {
    "nothing": b"",
    "too short": b"FLW1\0\0\0",
    "another magic": b"PK\3\4" + sealed(b"")[4:],
    "a pickle": b"\x80\x05cos\nsystem\n(S'true'\ntR.",
    "no body": sealed(b""),
    "half a length": sealed(b"\1\0\0"),
    "10 GB claimed": payload(one("F32", [2_684_354_560], [0, 10_737_418_240])),
    "10 GB claimed, no offsets to match": payload(one("F32", [2_684_354_560], [0, 4]), bytes(4)),
    "2^60 values claimed": payload(one("F32", [2**60], [0, 2**62])),
    "a size that overflows": payload(one("F32", [2**63, 2**63], [0, 4]), bytes(4)),
    "an empty tensor, too wide": payload(one("F32", [0, 2**63], [0, 0])),
    "a huge header length": sealed(struct.pack("<Q", 2**63)),
    "a header of 100 MB claimed": sealed(struct.pack("<Q", 100_000_000) + b"{}"),
    "deep nesting": payload(DEEP),
    "many dimensions": payload(one("F32", [1] * 100_000, [0, 4]), bytes(4)),
    "a million dimensions": payload(one("F32", [1] * 1_000_000, [0, 4]), bytes(4)),
    "many dimensions in an update": payload(FITS_BUT_FOR_ITS_EXTRA, bytes(24)),
    "not UTF-8": payload(b'{"\xff":1}'),
    "half a surrogate": payload(b'{"\\ud800":1}'),
    "not JSON": payload(b"hello"),
    "a list": payload(b"[]"),
    "an unknown dtype": payload(one("F31", [1], [0, 4]), bytes(4)),
    "a dtype torch cannot load": payload(one("F4", [2], [0, 1]), bytes(1)),
    "a negative size": payload(one("F32", [-1], [0, 4]), bytes(4)),
    "a fractional size": payload(one("F32", [1.5], [0, 4]), bytes(4)),
    "offsets backwards": payload(one("F32", [1], [4, 0]), bytes(4)),
    "offsets outside": payload(one("F32", [1], [4, 8]), bytes(4)),
    "too little data": payload(one("F32", [2], [0, 8]), bytes(4)),
    "too much data": payload(one("F32", [1], [0, 4]), bytes(99)),
    "a name twice": payload(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
}


def peak_address_space() -> int:
    """Return the most bytes of address space this process ever had."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc")
    return int(status.read_text().split("VmPeak:")[1].split()[0]) * 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_quickly(name):
    began = time.thread_time()
    with pytest.raises(wire.WireError):
        wire.unpack(HOSTILE[name], wire.touched_rows(), 0)
    assert time.thread_time() - began < 0.5


def test_hostile_bytes_allocate_nothing_of_what_they_claim():
    judge(wire.pack(an_update(), wire.dense(), LIKE), wire.dense())  # what libraries set up once
    before = peak_address_space()
    for hostile in HOSTILE.values():
        with pytest.raises(wire.WireError):
            wire.unpack(hostile, wire.touched_rows(), 0)
    assert peak_address_space() - before < 1e9


def test_messages_say_what_came_and_what_is_accepted():
    with pytest.raises(wire.WireError, match=r"3 bytes are no payload, which has 8 or more"):
        wire.dense().decode(b"abc")
    with pytest.raises(wire.WireError, match=r"starts with b'PK.*expected b'FLW1'"):
        wire.dense().decode(HOSTILE["another magic"])
    with pytest.raises(wire.WireError, match=r"checksum does not match"):
        wire.dense().decode(payload({})[:-1])
    with pytest.raises(wire.WireError, match=r"claims 100000000 bytes, expected at most 1048576"):
        wire.dense().decode(HOSTILE["a header of 100 MB claimed"])
    with pytest.raises(wire.WireError, match=r"'a' has 100000 dimensions, expected at most 16"):
        wire.dense().decode(HOSTILE["many dimensions"])


def test_every_truncation_and_every_flipped_bit_is_noticed():
    whole = wire.pack(an_update(), wire.touched_rows(), LIKE)
    for end in range(len(whole)):
        with pytest.raises(wire.WireError):
            wire.touched_rows().decode(whole[:end])
    for position in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(wire.WireError):
            wire.touched_rows().decode(bytes(damaged))


def judge(received: bytes, codec) -> None:
    """Do with bytes all that the server does; only the documented refusals may come out."""
    try:
        update = wire.unpack(received, codec, 0)
        update.require_fit(LIKE)
    except (wire.WireError, RefusedUpdate):
        return
    json.dumps([update.examples, update.steps, update.losses[-1]])
    for strategy in (fedavg(), uniform(), rowwise()):
        server = strategy.aggregate(strategy.init(LIKE), [update, update])
        assert all(bool(torch.isfinite(tensor).all()) for tensor in server.params.values())


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(noise):
    with pytest.raises(wire.WireError):
        wire.unpack(noise, wire.dense(), 0)
    with pytest.raises(wire.WireError):
        wire.unpack(sealed(noise), wire.dense(), 0)


@settings(max_examples=300)
@given(st.data())
def test_bits_flipped_under_a_right_checksum_do_no_harm(data):
    body = bytearray(wire.pack(an_update(), wire.touched_rows(), LIKE)[8:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    judge(sealed(bytes(body)), wire.touched_rows())


def float_bits(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(torch.int32)


NAMES = ["report", "losses", "delta.bias", "delta.steps", "delta.embedding.weight", "delta.new"]
NAMES += ["rows.embedding.weight", "rows.bias", "rows.steps", "rows.new", "extra.x", "delta", ""]
FITTING = {
    "report": torch.tensor([3, 1]),
    "losses": float_bits([0.5]),
    **{f"delta.{name}": tensor for name, tensor in LIKE.items()},
}


@settings(max_examples=300)
@given(states(PLAIN + ODD, st.sampled_from(NAMES) | st.text(max_size=5)), st.booleans())
def test_arbitrary_named_tensors_are_refused_or_fit(tensors, over_a_good_one):
    judge(b"", Holds(FITTING | tensors if over_a_good_one else tensors))


@settings(max_examples=300)
@given(
    rows=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 5), max_size=4),
    report=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2),
    losses=st.lists(st.floats(width=32), max_size=3),
    value=st.floats(width=32),
)
def test_arbitrary_numbers_are_refused_or_fit(rows, report, losses, value):
    sent = FITTING | {
        "report": torch.tensor(report),
        "losses": float_bits(losses),
        "rows.embedding.weight": torch.tensor(rows, dtype=torch.int32),
        "delta.embedding.weight": torch.full((len(rows), 2), value),
    }
    judge(wire.touched_rows().encode(sent), wire.touched_rows())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"report": None}, "'report' is missing"),
        ({"losses": None}, "'losses' is missing"),
        ({"report": torch.tensor([3.0, 1.0])}, r"'report' is \(2,\) torch.float32, expected one"),
        ({"report": torch.tensor([[3, 1]])}, r"'report' is \(1, 2\) torch.int64"),
        ({"report": torch.tensor([3])}, "'report' has 1 numbers, expected examples and steps"),
        ({"report": torch.tensor([True, True])}, "'report' is .* torch.bool"),
        ({"losses": torch.tensor(0.5)}, r"'losses' is \(\) torch.float32"),
        ({"losses": float_bits([[0.5]])}, r"'losses' is \(1, 1\)"),
        ({"losses": torch.tensor([1j])}, "'losses' is .* torch.complex64"),
        ({"rows.bias": torch.tensor([0.0])}, "'rows.bias' is .*float32, expected .*int32"),
        ({"rows.bias": torch.tensor([1j])}, "'rows.bias' is .* torch.complex64"),
        ({"rows.bias": torch.zeros(1, 1, dtype=torch.int32)}, r"'rows.bias' is \(1, 1\)"),
        ({"who": torch.tensor(1)}, r"'who' is no part of an update, expected one of \['delta'"),
    ],
)
def test_tensors_that_are_no_update_are_named(change, message):
    tensors = {k: t for k, t in (FITTING | change).items() if t is not None}
    with pytest.raises(wire.WireError, match=message):
        wire.unpack(b"", Holds(tensors), 0)


@settings(max_examples=200)
@given(
    kinds=st.dictionaries(
        ANY_NAME.filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(PLAIN + ODD), st.lists(st.integers(0, 12), max_size=4)),
        max_size=6,
    )
)
def test_the_size_of_an_encoding_is_known_without_writing_it(kinds):
    tensors = {name: torch.zeros(shape).to(kind) for name, (kind, shape) in kinds.items()}
    assert wire.size(tensors) == len(wire.dense().encode(tensors))


@pytest.mark.parametrize("rows", [9, 10, 99, 100, 999_999, 1_000_000])
def test_the_size_of_an_encoding_grows_with_the_digits_of_its_header(rows):
    tensors = {"table": torch.zeros(rows, 1, dtype=torch.int8), "z": torch.zeros(2)}
    assert wire.size(tensors) == len(wire.dense().encode(tensors))


def test_a_downlink_sends_the_weights_whole_to_each_client(bits):
    params, variate = {"w": torch.arange(5.0)}, {"w": torch.ones(5)}
    received, _, size = wire.Downlink(params, variate).deliver((0, 2, 5))
    assert bits(received.weights) == bits(params)
    assert bits(received.extra) == bits(variate)
    assert received.weights["w"].data_ptr() != params["w"].data_ptr()
    assert received.extra["w"].data_ptr() != variate["w"].data_ptr()
    assert size == 3 * sum(len(wire.dense().encode(part)) for part in (params, variate))


@pytest.mark.parametrize("table", [None, "e"])
def test_what_clients_are_handed_is_what_they_would_decode(bits, table):
    """In its order and layout, too; of the table, of which each takes rows, there is no copy."""
    odd = torch.tensor([float("nan"), -0.0, 1e-45]).repeat(2, 1)
    params = {"z": odd.T, "e": torch.rand(4, 2), "n": torch.tensor(7), "a": odd.bfloat16()}
    received, _, _ = wire.Downlink(params, {"b": odd.T}, table).deliver((1,))
    for part, sent in ((received.weights, params), (received.extra, {"b": odd.T})):
        decoded = wire.dense().decode(wire.dense().encode(sent))
        assert bits(part) == bits(decoded)
        assert list(part) == list(decoded)
        assert all(tensor.stride() == decoded[name].stride() for name, tensor in part.items())
    shared = [n for n, t in params.items() if received.weights[n].data_ptr() == t.data_ptr()]
    assert shared == ([table] if table else [])


def test_nothing_beside_the_weights_costs_nothing():
    params = {"w": torch.arange(5.0)}
    _, link, size = wire.Downlink(params).deliver((0, 1))
    assert size == 2 * len(wire.dense().encode(params))
    moved = link.advance({"w": torch.ones(5)}, {}, torch.Generator())
    assert moved.deliver((0,))[0].weights["w"].tolist() == [1.0] * 5


def test_buffers_travel_as_they_are_beside_any_codec(bits):
    """A codec that halves all it sends leaves them alone."""

    class Halving:
        keeps_rows = True

        def encode(self, state, rng=None):
            half = {n: t / 2 if t.is_floating_point() else t for n, t in state.items()}
            return wire.dense().encode(half)

        def decode(self, payload):
            return wire.dense().decode(payload)

    buffers = {"mask": torch.tensor([True, False]), "n": torch.tensor(3), "var": torch.ones(2)}
    update = Update(1, {"w": torch.ones(2)}, {}, 5, 2, (0.5,), buffers=buffers)
    back = wire.unpack(wire.pack(update, Halving(), {"w": torch.zeros(2)}), Halving(), 1)
    assert bits(back.buffers) == bits(buffers)
    assert back.delta["w"].tolist() == [0.5, 0.5]
    payload = wire.pack(update, Halving(), {"w": torch.zeros(2)})
    for damaged in (payload[:6], payload[:40], payload[:4] + b"\xff" * 4 + payload[8:]):
        with pytest.raises(wire.WireError):
            wire.unpack(damaged, Halving(), 1)
