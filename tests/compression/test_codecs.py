"""Codecs: what comes back, what was lost, what it cost, and what is refused."""

import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlab_helpers import compression as comp
from fedlab_helpers.compression import Compressed, LowRank, Quantized, RandomK, TopK, bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.compression.structured import sketch
from fedlab_helpers.core.wire import WireError

KEEPS = {
    "all": comp.Everything(),
    "topk": TopK(0.3),
    "topk a tensor": TopK(0.3, per="tensor"),
    "random": RandomK(0.4),
    "random a tensor": RandomK(0.4, per="tensor", scaled=False),
    "low rank": LowRank(1),
    "sketch": comp.CountSketch(0.5),
}
FORMATS = {
    "float32": comp.Float32(),
    "float16": comp.Float16(),
    "bfloat16": comp.Float16(brain=True),
    "8 bits": Quantized(8),
    "4 bits": Quantized(4, bucket=3),
    "2 bits": Quantized(2),
    "nearest": Quantized(4, stochastic=False),
    "ternary": comp.Ternary(),
    "clipped": comp.Ternary(clip=2.5),
    "sign": comp.Sign(),
}
CODECS = {
    f"{keep}, {form}{', squeezed' * bool(squeeze)}": Compressed(KEEPS[keep], FORMATS[form], squeeze)
    for keep in KEEPS
    for form in FORMATS
    for squeeze in ((None, 3) if keep in ("all", "topk") else (None,))
}
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
each_keep = pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)


def rng(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arrived(codec, state, seed=0):
    """Return what comes out of the bytes of a state."""
    return codec.decode(codec.encode(state, rng(seed)))


def written(form, values, seed=0):
    """Return what comes out of the bytes of values."""
    return form.unpack(Reader(form.pack(values, rng(seed))), len(values))


def a_state(seed=0):
    return {
        "delta.table": torch.randn(7, 5, generator=rng(seed)),
        "rows.table": torch.tensor([2, 3, 5, 8, 13, 21, 34], dtype=torch.int32),
        "delta.bias": torch.randn(9, generator=rng(seed + 1)),
        "delta.scale": torch.tensor(0.25),
        "delta.none": torch.zeros(0, 4),
        "report": torch.tensor([5, -3]),
        "seen": torch.tensor([[True, False]]),
    }


# Bits.


def test_small_numbers_take_one_byte_and_larger_ones_more():
    assert bits.varints([0, 1, 127, 128, 300]) == bytes([0, 1, 127, 128, 1, 172, 2])
    assert bits.gaps(np.array([0, 1, 5])) == bytes([0, 0, 3])  # neighbours have a gap of zero
    assert bits.pack(np.array([1, 2, 3, 0, 1]), 2) == bytes([0b00111001, 0b01])


@given(st.lists(st.integers(0, 2**35 - 1)))
def test_integers_come_back(values):
    reader = Reader(bits.varints(np.array(values, dtype=np.uint64)))
    assert reader.varints(len(values)).tolist() == values
    assert reader.left == 0


@given(st.lists(st.integers(0, 10_000), unique=True).map(sorted))
def test_positions_come_back_as_their_gaps(positions):
    packed = bits.gaps(np.array(positions, dtype=np.int64))
    assert Reader(packed).positions(len(positions), 10_001).tolist() == positions
    assert len(packed) <= 2 * len(positions)


@given(st.sampled_from([1, 2, 4, 8]), st.data())
def test_codes_come_back(width, data):
    codes = data.draw(st.lists(st.integers(0, 2**width - 1)))
    packed = bits.pack(np.array(codes, dtype=np.uint8), width)
    assert len(packed) == -(-len(codes) * width // 8)
    assert bits.unpack(packed, width, len(codes)).tolist() == codes


@given(st.lists(st.integers(0, 2)))
def test_trits_come_back_five_to_a_byte(codes):
    packed = bits.pack_trits(np.array(codes, dtype=np.uint8))
    assert len(packed) == -(-len(codes) // 5)
    assert bits.unpack_trits(packed, len(codes)).tolist() == codes


@pytest.mark.parametrize(
    ("data", "ask", "message"),
    [
        (b"\1\2", lambda r: r.take(3), "3 bytes are expected where 2 are left"),
        (b"\x80", lambda r: r.varint(), "1 integers are expected, 0 came"),
        (b"\x80\0\1", lambda r: r.varint(), "more than it needs"),
        (b"\1", lambda r: r.varints(10**12), "1000000000000 integers are expected where 1 bytes"),
        (b"\x80" * 5 + b"\1\1", lambda r: r.varints(2), "an integer has more than 5 bytes"),
        (b"\1\1", lambda r: r.positions(2, 3), "position 3 is claimed among 3"),
        (b"\0" * 9, lambda r: r.positions(9, 3), "9 positions are claimed among 3"),
    ],
)
def test_a_reader_never_reads_what_is_not_there(data, ask, message):
    with pytest.raises(WireError, match=message):
        ask(Reader(data))


# What comes back.


@each_codec
def test_the_same_generator_gives_the_same_bytes_of_the_same_tensors(codec):
    sent = a_state()
    first, again, other = (codec.encode(sent, rng(seed)) for seed in (1, 1, 2))
    assert first == again
    draws = isinstance(codec.keep, RandomK | LowRank | comp.CountSketch) or (
        isinstance(codec.write, comp.Ternary) or getattr(codec.write, "stochastic", False)
    )
    assert (first != other) == draws
    came = codec.decode(first)
    assert list(came) == sorted(sent)
    for name, tensor in sent.items():
        assert (came[name].dtype, came[name].shape) == (tensor.dtype, tensor.shape)
        if not tensor.is_floating_point() or tensor.numel() < 2:
            assert torch.equal(came[name], tensor)


@each_codec
def test_zeros_come_back_as_zeros(codec):
    came = arrived(codec, {"a": torch.zeros(6, 6), "b": torch.zeros(3)})
    assert came["a"].tolist() == torch.zeros(6, 6).tolist()
    assert came["b"].tolist() == [0, 0, 0]


@st.composite
def floats(draw):
    """Draw tensors of 0 to 3 dimensions, some empty, some odd, of any finite float32."""
    state = {}
    for name in draw(st.lists(st.text(max_size=5), max_size=4, unique=True)):
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        size = int(np.prod(shape))
        numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
        values = draw(st.lists(numbers, min_size=size, max_size=size))
        state[name] = torch.tensor(values, dtype=torch.float32).reshape(shape)
    return state


@settings(max_examples=60)
@given(floats(), st.sampled_from(sorted(CODECS)))
def test_any_finite_values_come_back_finite_and_in_shape(bits, state, name):
    came = arrived(CODECS[name], state)
    assert {n: t.shape for n, t in came.items()} == {n: t.shape for n, t in state.items()}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in came.values())
    assert bits(arrived(Compressed(), state)) == bits(dict(sorted(state.items())))


ODD = {  # dtype -> numbers that it can hold
    torch.float32: st.sampled_from([0.0, -0.0, 1.5, -3.25, 1e-40, 3e38, torch.nan, torch.inf]),
    torch.float64: st.sampled_from([0.0, 1.5, -3.25, 1e-300, 1e300, torch.nan]),
    torch.float16: st.sampled_from([0.0, 1.5, -3.25, 65504.0, 6e-8, torch.nan, torch.inf]),
    torch.bfloat16: st.sampled_from([0.0, 1.5, -3.25, 1e38, torch.nan]),
    torch.int64: st.integers(-(2**63), 2**63 - 1),
    torch.int32: st.integers(0, 2**31 - 1),
    torch.uint8: st.integers(0, 255),
    torch.bool: st.booleans(),
    torch.complex64: st.sampled_from([0j, 1 + 2j, -1j]),
}


@st.composite
def odd_tensors(draw):
    """Draw a tensor of any dtype and 0 to 3 dimensions, often not as it lies in memory."""
    dtype = draw(st.sampled_from(list(ODD)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    size = int(np.prod(shape))
    plain = draw(st.lists(ODD[dtype], min_size=size, max_size=size))
    tensor = torch.tensor(plain, dtype=dtype).reshape(shape)
    views = (
        lambda t: t,
        lambda t: t.T if t.dim() == 2 else t,
        lambda t: torch.stack([t, t], -1)[..., 0],
        lambda t: t[:1].expand(3, *t.shape[1:]) if t.dim() and len(t) else t,
        torch.conj,
    )
    return draw(st.sampled_from(views))(tensor)


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["delta.w", "delta.v", "extra.w", "rows.w", "report"]),
        odd_tensors(),
    ),
    st.sampled_from(sorted(CODECS)),
)
def test_odd_tensors_are_refused_by_name_or_come_back(bits, state, name):
    """0-d, empty, narrow, wide, integer, strided; and all but changes and extras bit for bit."""
    codec = CODECS[name]
    lossy = {n for n, t in state.items() if t.is_floating_point() and t.numel() > 1}
    odd = {n for n in lossy if not torch.isfinite(state[n].float()).all()}
    if odd:
        with pytest.raises(ValueError, match=rf"'({'|'.join(odd)})' has a value that is NaN"):
            codec.encode(state, rng())
        return
    came = arrived(codec, state)
    assert came.keys() == state.keys()
    for n, tensor in state.items():
        assert (came[n].dtype, came[n].shape) == (tensor.dtype, tensor.shape)
        if n not in lossy:
            own = tensor.resolve_conj().clone(memory_format=torch.contiguous_format)
            assert bits(came[n]) == bits(own)
        elif codec == Compressed():
            assert torch.equal(came[n], tensor.float().to(tensor.dtype))


@each_codec
def test_torchs_global_defaults_change_nothing(bits, codec):
    sent = codec.encode(a_state(), rng())
    came = bits(codec.decode(sent))
    state, generator = a_state(), rng()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert codec.encode(state, generator) == sent
        assert bits(codec.decode(sent)) == came
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_half_precision_is_scaled_so_that_nothing_becomes_infinite_or_nothing():
    for form, digits in ((comp.Float16(), 2**-11), (comp.Float16(brain=True), 2**-8)):
        for size in (1e38, 70_000.0, 1e-8, 1e-38):
            values = torch.tensor([size, -size / 3, size / 1000, size * 2**-29])
            came = written(form, values)
            assert ((came - values).abs() <= digits * values.abs() + 1e-45).all()


def test_the_largest_float_does_not_round_up_to_infinity():
    values = torch.tensor([torch.finfo(torch.float32).max])
    for form in FORMATS.values():
        assert torch.isfinite(written(form, values)).all()


# What is kept.


def test_topk_by_hand():
    sent = {"a": torch.tensor([[0.1, -4.0], [3.0, 0.0]]), "b": torch.tensor([-5.0, 0.2])}
    whole = arrived(Compressed(TopK(0.5)), sent)
    assert whole["a"].tolist() == [[0, -4], [3, 0]]
    assert whole["b"].tolist() == [-5, 0]
    assert arrived(Compressed(TopK(0.5, per="tensor")), sent)["b"].tolist() == [-5, 0]
    assert arrived(Compressed(TopK(0.01)), sent)["a"].tolist() == [[0, 0], [0, 0]]
    # What a strategy sends beside the change does not compete with it.
    sent = {"delta.w": torch.tensor([1.0, 2.0]), "extra.w": torch.tensor([80.0, 90.0])}
    came = arrived(Compressed(TopK(0.5)), sent)
    assert (came["delta.w"].tolist(), came["extra.w"].tolist()) == ([0, 2], [0, 90])


def test_random_bits_are_those_of_the_reference():
    """The first outputs of SplitMix64 from seed 1234567, from its authors' code."""
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert bits.draws(1234567, 0, 3).tolist() == first
    assert bits.draws(1234567, 1, 3).tolist() == first[1:]


def test_random_positions_are_drawn_again_from_their_seed():
    codec = Compressed(RandomK(0.5, scaled=False))
    sent = {"a": torch.arange(1.0, 101), "b": torch.arange(101.0, 201)}
    came = arrived(codec, sent)
    assert sum(int((t != 0).sum()) for t in came.values()) == 100
    assert all(bool(((came[n] == 0) | (came[n] == sent[n])).all()) for n in sent)
    assert len(codec.encode(sent, rng())) < 4 * 100 + 60  # no position is sent


def test_a_matrix_of_rank_one_is_sent_as_its_factors():
    matrix = torch.outer(torch.randn(40, generator=rng()), torch.randn(30, generator=rng(1)))
    codec = Compressed(LowRank(1))
    sent = codec.encode({"m": matrix, "v": torch.arange(5.0)}, rng())
    came = codec.decode(sent)
    torch.testing.assert_close(came["m"], matrix, rtol=1e-5, atol=1e-6)
    assert came["v"].tolist() == [0, 1, 2, 3, 4]
    assert len(sent) < 4 * (40 + 30 + 5) + 50


def test_low_rank_comes_near_the_best_there_is():
    matrix = torch.randn(60, 40, generator=rng()) @ torch.diag(0.8 ** torch.arange(40.0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    best = float((matrix - u[:, :4] * s[:4] @ v[:4]).norm())
    codec = Compressed(LowRank(4, iterations=4))
    came = arrived(codec, {"m": matrix})["m"]
    assert best <= float((matrix - came).norm()) < 1.1 * best


def test_the_sketch_of_a_sum_is_the_sum_of_sketches():
    a, b = (torch.randn(500, generator=rng(seed)) for seed in (0, 1))
    summed = sketch(a, 7, 20) + sketch(b, 7, 20)
    torch.testing.assert_close(sketch(a + b, 7, 20), summed, rtol=1e-4, atol=1e-5)


def test_a_sketch_finds_what_is_much_larger_than_the_rest():
    values = 0.01 * torch.randn(2000, generator=rng())
    values[[3, 500, 1999]] = torch.tensor([5.0, -7.0, 6.0])
    codec = Compressed(comp.CountSketch(0.2))
    came = arrived(codec, {"v": values})["v"]
    assert set(came.abs().topk(3).indices.tolist()) == {3, 500, 1999}
    torch.testing.assert_close(came[[3, 500, 1999]], values[[3, 500, 1999]], rtol=0.05, atol=0)


# How it is written.


def test_bits_of_a_value_are_what_they_are_said_to_be():
    def cost(form, n=4096):
        return 8 * (len(form.pack(torch.randn(n, generator=rng()), rng()))) / n

    assert cost(comp.Float32()) == 32
    assert cost(comp.Float16()) == pytest.approx(16, abs=0.01)
    assert cost(Quantized(8)) == 8 + 32 / 512
    assert cost(Quantized(4)) == 4 + 32 / 512
    assert cost(Quantized(2)) == 2 + 32 / 512
    assert cost(comp.Ternary()) == pytest.approx(1.6, abs=0.02)
    assert cost(comp.Sign()) == pytest.approx(1, abs=0.01)


def test_sign_by_hand():
    values = torch.tensor([3.0, -1.0, 0.0, -4.0])
    assert written(comp.Sign(), values).tolist() == [2, -2, 2, -2]


def test_quantized_by_hand():
    form = Quantized(4, bucket=2, stochastic=False)
    values = torch.tensor([7.0, 2.4, -0.7, 0.34, 0.0])
    came = written(form, values)
    assert came.tolist() == pytest.approx([7, 2, -0.7, 0.3, 0])


VALUES = torch.tensor([1.0, -0.7, 0.31, 0.0, 0.05, -1.0, 0.9, 2e-3, -0.42, 0.6, 0.11])
UNBIASED = {
    "8 bits": Compressed(write=Quantized(8)),
    "4 bits": Compressed(write=Quantized(4, bucket=4)),
    "2 bits": Compressed(write=Quantized(2)),
    "ternary": Compressed(write=comp.Ternary()),
    "random": Compressed(RandomK(0.3)),
    "random a tensor": Compressed(RandomK(0.3, per="tensor")),
    "random in 2 bits": Compressed(RandomK(0.5), Quantized(2)),
}


COPIES, DRAWS = 300, 40


def mean_error(codec) -> tuple[Tensor, Tensor]:
    """Return how far off each value is on average, and the standard error of that."""
    generator = rng()
    state = {"a": VALUES[:7].repeat(COPIES), "b": VALUES[7:].repeat(COPIES)}
    came = []
    for _ in range(DRAWS):
        arrived = codec.decode(codec.encode(state, generator))
        came.append(torch.cat([arrived["a"].view(COPIES, -1), arrived["b"].view(COPIES, -1)], 1))
    all_draws = torch.cat(came)
    return (all_draws.mean(0) - VALUES).abs(), all_draws.std(0) / len(all_draws) ** 0.5


@pytest.mark.parametrize("codec", UNBIASED.values(), ids=UNBIASED)
def test_an_unbiased_codec_is_right_on_average(codec):
    off, standard_error = mean_error(codec)
    assert (off <= 5 * standard_error + 1e-6).all()
    # The bound is tight enough to see a factor that is wrong by a tenth.
    assert float(5 * standard_error[0]) < 0.1


N = 60
CONTRACTIONS = {  # codec -> how much of the square is lost at most
    "topk": (Compressed(TopK(0.25)), 1 - 0.25),
    "topk a tensor": (Compressed(TopK(0.25, per="tensor")), 1 - 0.25),
    "low rank": (Compressed(LowRank(1)), 1 - 1e-6),
    "sign": (Compressed(write=comp.Sign()), 1 - 1 / N),
    "topk and sign": (Compressed(TopK(0.25), comp.Sign()), 1 - 1 / N),
    "nearest of 4 bits": (Compressed(write=Quantized(4, stochastic=False)), 1 - 1 / N),
    "nearest of 2 bits": (Compressed(write=Quantized(2, stochastic=False)), 1 - 1 / N),
    "float16": (Compressed(write=comp.Float16()), 2**-20),
}


@pytest.mark.parametrize(("codec", "bound"), CONTRACTIONS.values(), ids=CONTRACTIONS)
@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), power=st.integers(1, 5))
def test_a_biased_codec_is_a_contraction(codec, bound, seed, power):
    assert codec.contracts
    values = torch.randn(10, 6, generator=rng(seed)) ** power
    came = arrived(codec, {"a": values}, seed)["a"]
    lost = float((came - values).double().square().sum())
    assert lost <= bound * float(values.double().square().sum()) * (1 + 1e-5)


def test_codecs_that_may_lose_more_than_there_was_say_so():
    loud = [comp.CountSketch(0.5), RandomK(0.1)]
    assert not any(Compressed(keep).contracts for keep in loud)
    assert not any(Compressed(write=form).contracts for form in (Quantized(2), comp.Ternary()))
    values = {"a": torch.randn(500, generator=rng())}
    for codec in (*map(Compressed, loud), Compressed(write=comp.Ternary())):
        came = arrived(codec, values)["a"]
        assert (came - values["a"]).norm() > values["a"].norm()


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_random_values_lose_what_is_not_drawn(seed):
    values, codec = torch.randn(20, generator=rng(seed)), Compressed(RandomK(0.25, scaled=False))
    lost = [
        float((arrived(codec, {"a": values}, s)["a"] - values).square().sum()) for s in range(100)
    ]
    total = float(values.square().sum())
    assert max(lost) <= total
    # Its mean is 0.75 of all; five standard errors.
    assert abs(np.mean(lost) - 0.75 * total) <= 5 * np.std(lost) / 10 + 1e-6


@given(seed=st.integers(0, 10**6), width=st.sampled_from([8, 4, 2]))
def test_the_error_of_a_quantized_value_is_at_most_a_step(seed, width):
    form, values = Quantized(width, bucket=16), torch.randn(40, generator=rng(seed))
    came = written(form, values, seed)
    scale = torch.tensor([float(v.abs().max()) for v in values.split(16)])
    step = (scale / form.steps).repeat_interleave(16)[:40]
    assert ((came - values).abs() <= step * (1 + 1e-6)).all()


# What it costs.


def test_the_payload_is_as_documented():
    sent = Compressed().encode({"a": torch.tensor([[1.0, -2.0]])})
    assert sent[:4] == b"FLC1"
    assert int.from_bytes(sent[4:8], "little") == zlib.crc32(sent[8:])
    assert int.from_bytes(sent[8:12], "little") == zlib.crc32(b"Everything() Float32()")
    assert sent[12] == 0
    table = bytes([1, 1]) + b"a" + bytes([0, 2, 1, 2])
    assert sent[13:] == table + struct.pack("<2f", 1, -2)


def test_rows_cost_a_byte_each_and_not_four():
    rows = torch.arange(0, 8000, 4, dtype=torch.int32)
    assert len(Compressed().encode({"rows.x": rows})) < 2000 + 40


def test_squeezing_is_zstandard_over_the_same_bytes():
    plain, squeezed = Compressed(TopK(0.1)), Compressed(TopK(0.1), squeeze=19)
    state = {"a": torch.randn(300, 10, generator=rng())}
    inner = zstandard.ZstdDecompressor().decompress(squeezed.encode(state)[13:])
    assert inner == plain.encode(state)[13:]


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0.0), r"share: got 0.0, expected a number in \(0, 1\]"),
        (lambda: TopK(0.1, per="row"), r"per: got 'row', expected one of \['model', 'tensor'\]"),
        (lambda: RandomK(1.5), "share: got 1.5"),
        (lambda: comp.CountSketch(-1), "share: got -1"),
        (lambda: LowRank(0), "rank: got 0, expected an integer of at least 1"),
        (lambda: LowRank(1, iterations=0), "iterations: got 0"),
        (lambda: Quantized(3), "bits: got 3, expected 8, 4 or 2"),
        (lambda: Quantized(4, bucket=0), "bucket: got 0"),
        (lambda: Compressed(squeeze=23), "squeeze: got 23, expected 1 to 22, or None"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_more_than_a_reader_would_take_is_not_sent():
    with pytest.raises(ValueError, match=r"with 101 values, expected .* max_values=100"):
        Compressed(max_values=100).encode({"a": torch.zeros(101)})
    with pytest.raises(ValueError, match="1 tensors of up to 17 dimensions"):
        Compressed().encode({"a": torch.zeros([1] * 17)})


def test_settings_that_a_reader_must_know_are_checked():
    state = {"a": torch.randn(40, generator=rng()), "b": torch.randn(40, generator=rng())}
    for one, other in (
        (RandomK(0.2), RandomK(0.2, per="tensor")),
        (RandomK(0.2), RandomK(0.3)),
        (LowRank(1), LowRank(2)),
        (comp.CountSketch(0.2), comp.CountSketch(0.3)),
    ):
        with pytest.raises(WireError, match="written by another codec"):
            Compressed(other).decode(Compressed(one).encode(state))
    with pytest.raises(WireError, match="written by another codec"):
        Compressed(write=Quantized(4)).decode(Compressed(write=Quantized(4, 64)).encode(state))
    # How many values are sent may differ: a client's warm-up sends more.
    Compressed(TopK(0.1)).decode(Compressed(TopK(0.5)).encode(state))


def test_a_dtype_that_cannot_be_sent_is_named():
    with pytest.raises(ValueError, match=r"'w' is torch.float8_e5m2, expected one of"):
        Compressed().encode({"w": torch.zeros(1).to(torch.float8_e5m2)})


def head_of(codec) -> bytes:
    """Return which codec it was, and whether it squeezes, as they stand in a payload."""
    return codec.encode({})[8:13]


PLAIN = head_of(Compressed())


def sealed(body: bytes, head: bytes = PLAIN) -> bytes:
    return b"FLC1" + zlib.crc32(head + body).to_bytes(4, "little") + head + body


def claimed(shape, dtype=0, name=b"a", body=b"", head=PLAIN) -> bytes:
    table = bytes([1, len(name)]) + name + bits.varints([dtype, len(shape), *shape])
    return sealed(table + body, head)


HOSTILE = {
    "nothing": b"",
    "too short": b"FLC1\0\0\0",
    "another magic": b"FLW1" + sealed(b"\0")[4:],
    "another codec": Compressed(TopK(0.5)).encode({"a": torch.ones(4)}),
    "another format": Compressed(write=comp.Sign()).encode({"a": torch.ones(4)}),
    "squeezed unasked": Compressed(squeeze=3).encode({"a": torch.ones(4)}),
    "a number longer than it needs": sealed(b"\x80\0"),
    "no table": sealed(b""),
    "many tensors": sealed(bits.varints([2**34])),
    "a long name": sealed(bits.varints([1, 2**34])),
    "not UTF-8": claimed([1], name=b"\xff", body=bytes(4)),
    "an unknown dtype": claimed([1], dtype=99, body=bytes(4)),
    "many dimensions": claimed([1] * 100, body=bytes(4)),
    "40 GB": claimed([100_000, 100_000]),
    "2^68 values": claimed([2**34, 2**34]),
    "none of 2^34": claimed([0, 2**34]),
    "just below the limit": claimed([1 << 22]),
    "too little": claimed([2], body=bytes(4)),
    "too much": claimed([1], body=bytes(9)),
    "a name twice": sealed(bytes([2]) + 2 * (b"\1a" + bytes([0, 0])) + bytes(8)),
    "integers sent in no known way": claimed([1], dtype=4, body=bytes([7] + [0] * 8)),
    "neither true nor false": claimed([1], dtype=9, body=bytes([0, 5])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_quickly(name):
    began = time.thread_time()
    with pytest.raises(WireError):
        Compressed().decode(HOSTILE[name])
    assert time.thread_time() - began < 0.5


PROBE = """
import resource, sys, zlib
import zstandard
from fedlab_helpers import compression as comp
from fedlab_helpers.compression import bits
from fedlab_helpers.core.wire import WireError
table = bytes([1, 1]) + b"a" + bits.varints([0, 2, 1 << 18, 4])
ones = [bits.varints([1 << 26]), bits.varints([1 << 20])]
top, sketch = (comp.Compressed(k, comp.Sign(), 3) for k in (comp.TopK(0.1), comp.CountSketch(0.05)))
for codec in (top, sketch):
    codec.encode({"a": __import__("torch").ones(40)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nothing = bytes(1 << 19)
for codec, bodies in ((top, [nothing, *(one * (1 << 18) for one in ones)]), (sketch, [nothing])):
    for body in bodies:
        squeezed = codec.encode({})[8:13] + zstandard.ZstdCompressor(3).compress(table + body)
        payload = b"FLC1" + zlib.crc32(squeezed).to_bytes(4, "little") + squeezed
        assert len(payload) < 5000, len(payload)
        try:
            codec.decode(payload)
        except WireError:
            pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process in kibibytes")
def test_a_small_payload_that_claims_much_needs_little_memory():
    """A million values claimed: 4 MB as float32, and some tens of MB are needed for that."""
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 75


@each_keep
def test_more_values_than_a_reader_takes_are_refused_whatever_is_sent_of_them(keep):
    codec = Compressed(keep, comp.Sign())
    with pytest.raises(WireError, match="more than 4194304 values are claimed, by 'a'"):
        codec.decode(claimed([1 << 11, 1 << 12], body=bytes(99), head=head_of(codec)))


def test_a_bomb_is_not_expanded_nor_what_hides_its_size():
    compressor = zstandard.ZstdCompressor(level=1).compressobj(size=1 << 30)
    chunks = [compressor.compress(bytes(1 << 20)) for _ in range(1 << 10)]
    bomb = b"".join(chunks) + compressor.flush()
    assert len(bomb) < 1e5  # it holds a billion zeros
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    codec = Compressed(squeeze=1)
    for frame, size in ((bomb, "1073741824"), (hidden, r"\d+")):
        with pytest.raises(WireError, match=f"{size} bytes are claimed after expansion"):
            codec.decode(sealed(frame, head_of(codec)))


@pytest.mark.parametrize("codec", [*CODECS.values()][::7], ids=[*CODECS][::7])
def test_every_truncation_and_flipped_bit_is_noticed(codec):
    whole = codec.encode({"delta.t": torch.randn(4, 3, generator=rng())}, rng())
    for end in range(len(whole)):
        with pytest.raises(WireError):
            codec.decode(whole[:end])
    for position in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(WireError):
            codec.decode(bytes(damaged))


@settings(max_examples=200)
@given(st.sampled_from(sorted(CODECS)), st.data())
def test_bits_flipped_under_a_right_checksum_do_no_harm(name, data):
    codec = CODECS[name]
    body = bytearray(codec.encode(a_state(), rng())[8:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        came = codec.decode(b"FLC1" + zlib.crc32(bytes(body)).to_bytes(4, "little") + bytes(body))
    except WireError:
        return
    assert sum(t.numel() for t in came.values()) <= codec.max_values


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=200))
def test_random_bytes_are_refused(name, noise):
    codec = CODECS[name]
    for hostile in (noise, sealed(noise, head_of(codec))):
        try:
            codec.decode(hostile)
        except WireError:
            continue
        assert noise[:1] == b"\0"  # no tensor at all is a payload, too
