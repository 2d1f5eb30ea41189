"""A keyboard's model in a file: PyTorch's scores, one table, and suggestions without PyTorch."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.shrinking import Rounded, Suggestions
from fedlab_helpers.shrinking.classify import answer
from fedlab_helpers.shrinking.onnx_model import numpy_helper, run_onnx, sealed, to_onnx
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.next_word import NextWordLSTM, TiedLSTM, next_words, punctuation
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

SENTENCES = ["房间 很 干净 。 早餐 一般", "早餐 很 好 。 房间 一般"]
VOCAB = Vocabulary(sorted({word for line in SENTENCES for word in line.split()}))


def typed(count, words, seed=0, longest=9):
    """Return random texts of 1 to `longest` words."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=rng)
    tokens = torch.randint(1, words, (count, longest), generator=rng)
    return EncodedReviews(tokens * (torch.arange(longest) < lengths[:, None]), lengths, lengths * 0)


def loud(words=30, size=6, seed=0, cell="lstm"):
    """Return a model whose biases matter, too."""
    model = TiedLSTM(words, size, cell=cell, seed=seed).eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return model


@torch.no_grad()
def last_scores(model, texts):
    """Return what PyTorch gives at the last word of each text, (N, V)."""
    return model(texts.tokens, texts.lengths)[torch.arange(len(texts)), texts.lengths - 1]


def file_scores(model, texts, bits=32):
    return run_onnx(to_onnx(model, None, bits=bits).SerializeToString(), texts)


# The file


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    words=st.integers(3, 40),
    size=st.integers(1, 9),
    cell=st.sampled_from(sorted(CELLS)),
)
def test_the_file_scores_as_pytorch_does(seed, words, size, cell):
    model, texts = loud(words, size, seed, cell), typed(12, words, seed)
    got = file_scores(model, texts)
    torch.testing.assert_close(got, last_scores(model, texts), atol=1e-5, rtol=1e-5)
    wider = texts.with_inputs(torch.nn.functional.pad(texts.tokens, (0, 4)), texts.lengths)
    torch.testing.assert_close(file_scores(model, wider), got, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_in_few_bits_it_scores_as_the_rounded_model(bits):
    model, texts = loud(), typed(40, 30)
    rounded = last_scores(Rounded(model, bits), texts)
    torch.testing.assert_close(file_scores(model, texts, bits), rounded, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rounded, last_scores(model, texts), atol=1e-3)


@pytest.mark.parametrize(("bits", "name"), [(32, "table"), (8, "table_int8")])
def test_one_table_serves_both_ends(bits, name):
    graph = to_onnx(loud(), None, bits=bits).graph
    tables = [w.name for w in graph.initializer if numpy_helper.to_array(w).size == 30 * 7]
    assert tables == [name]
    ends = [node.op_type for node in graph.node if "table" in node.input]
    assert ends == ["Gather", "Gemm"]


def test_eight_bits_are_a_quarter():
    model = TiedLSTM(1500, 64, seed=0)
    sizes = [len(to_onnx(model, None, bits=bits).SerializeToString()) for bits in (32, 8)]
    weights = sum(p.numel() for p in model.parameters())
    assert 4 * weights < sizes[0] < 4 * weights + 3_000  # and 0 for each gate's bias
    assert 0.25 < sizes[1] / sizes[0] < 0.26


def test_eight_bits_propose_nearly_the_same():
    """Words count upwards, and three times in ten by chance."""
    rng = torch.Generator().manual_seed(0)
    first, steps = torch.randint(38, (300, 1), generator=rng), torch.arange(8)
    by_chance = torch.rand(300, 8, generator=rng) < 0.3
    tokens = torch.randint(38, (300, 8), generator=rng).where(by_chance, (first + steps) % 38)
    texts = EncodedReviews(2 + tokens, torch.full((300,), 8), torch.zeros(300, dtype=torch.int64))
    model = TiedLSTM(40, 16, dropout=0.0, seed=0)
    train(model, next_words(texts.subset(range(200))), LocalConfig(epochs=20, lr=0.02), seed=0)
    held_out = texts.subset(range(200, 300))
    whole, narrow = (file_scores(model.eval(), held_out, bits) for bits in (32, 8))
    assert float((whole - narrow).abs().max()) < 0.2
    assert float((whole.argmax(1) == narrow.argmax(1)).float().mean()) >= 0.97
    follows = 2 + (held_out.tokens[:, -1] - 1) % 38
    assert float((whole.argmax(1) == follows).float().mean()) > 0.6


# Suggestions


@pytest.fixture(scope="module")
def learnt():
    """A model that knows two sentences by heart."""
    rows = [VOCAB.encode(line.split()) for line in SENTENCES]
    lengths = torch.tensor([len(row) for row in rows])
    texts = EncodedReviews(torch.tensor(rows), lengths, lengths * 0)
    skip = punctuation(VOCAB, len(VOCAB))
    model = TiedLSTM(len(VOCAB), 8, dropout=0.0, seed=0)
    train(model, next_words(texts, len(VOCAB), skip=skip), LocalConfig(epochs=80, lr=0.05), seed=0)
    return model.eval()


@pytest.mark.parametrize("bits", [32, 8])
def test_what_was_learnt_is_proposed(learnt, bits):
    keyboard = Suggestions(sealed(to_onnx(learnt, VOCAB, bits=bits)))
    for begun, follows in [
        ("房间", "很"), ("房间 很", "干净"), ("早餐 很", "好"), ("早餐 很 好 。", "房间"),
        ("房间 很 干净 。 早餐", "一般"),
    ]:  # fmt: skip
        (word, share), *others = keyboard.next(begun.split())
        assert (word, share > 0.9, len(others)) == (follows, True, 2)


def test_how_likely_is_among_all_that_is_scored(learnt):
    keyboard = Suggestions(sealed(to_onnx(learnt, VOCAB)))
    begun = torch.tensor([VOCAB.encode(["房间", "哎呀"])])
    assert begun.tolist()[0][1] == 1
    shares = learnt(begun, None)[0, -1].softmax(0).tolist()
    got = keyboard.next(["房间", "哎呀"], k=99)
    words = set(VOCAB.words[2:]) - {"。"}
    assert len(got) == len(words)
    assert {word for word, _ in got} == words
    for word, share in got:
        assert share == pytest.approx(shares[VOCAB.encode([word])[0]], abs=1e-6)
    assert [share for _, share in got] == sorted((share for _, share in got), reverse=True)
    assert math.fsum(share for _, share in got) < 1
    assert keyboard.next(("房间", "哎呀"), k=2) == got[:2]


def test_no_padding_no_unknown_and_no_punctuation_is_proposed(learnt):
    model = TiedLSTM(len(VOCAB), 8, seed=0)
    model.load_state_dict(learnt.state_dict())
    with torch.no_grad():
        model.embedding.weight[[0, 1, *VOCAB.encode(["。"])], -1] = 50.0
    keyboard = Suggestions(sealed(to_onnx(model, VOCAB)))
    assert {word for word, _ in keyboard.next(["房间"], 99)} == {*VOCAB.words[2:]} - {"。"}


@pytest.mark.parametrize(("max_len", "read"), [(3, 3), (None, 64)])
def test_the_last_words_are_read_as_many_as_the_file_says(max_len, read):
    vocab = Vocabulary(VOCAB.words[2:], classes=("差评", "好评"), max_len=max_len)
    model = TiedLSTM(len(vocab), 8, seed=0)
    with torch.no_grad():
        model.recurrent.bias_hh_l0[8:16] = 20.0  # it forgets nothing
    keyboard = Suggestions(sealed(to_onnx(model, vocab)))
    words = ["房间", "很", "干净", "早餐"] * 30
    assert keyboard.next(words, 9) == keyboard.next(words[-read:], 9)
    assert keyboard.next(words, 9) != keyboard.next(words[1 - read :], 9)


def test_it_needs_no_torch(learnt, tmp_path):
    path = tmp_path / "keyboard.onnx"
    path.write_bytes(sealed(to_onnx(learnt, VOCAB, bits=8)))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from fedlab_helpers.shrinking import Suggestions\n"
        f"keyboard = Suggestions(Path({str(path)!r}).read_bytes())\n"
        "print(ascii(keyboard.next(['房间', '很'], 1)[0][0]))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (ascii("干净"), "")


# What is refused


def test_what_a_keyboard_cannot_answer_is_refused(learnt):
    keyboard = Suggestions(sealed(to_onnx(learnt, VOCAB)))
    for k in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"k: got {k}, expected an integer of at least 1"):
            keyboard.next(["房间"], k)
    for words in ([], (), "", "房间很"):
        with pytest.raises(ValueError, match=r"words: got .*expected a list of at least one word"):
            keyboard.next(words)


def test_what_is_no_keyboard_is_told(learnt, tmp_path):
    made = to_onnx(learnt, VOCAB)
    whole = sealed(made)
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    for content in (b"", b"junk", made.SerializeToString(), whole[:-1], bytes(damaged)):
        with pytest.raises(ValueError, match=r"content: no model of next words .*its checksum"):
            Suggestions(content)
    with pytest.raises(ValueError, match="content: no model of next words with its words"):
        Suggestions(sealed(to_onnx(learnt, None)))
    sentiment = to_onnx(SentimentLSTM(len(VOCAB), 4, 3, seed=0), VOCAB)
    with pytest.raises(ValueError, match="its graph: got 'sentiment', expected 'next_word'"):
        Suggestions(sealed(sentiment))
    (tmp_path / "keyboard.onnx").write_bytes(whole)
    with pytest.raises(ValueError, match="its graph: got 'next_word', expected 'sentiment'"):
        answer(tmp_path / "keyboard.onnx", "房间很干净")


def test_models_and_words_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="expected a SentimentLSTM or TiedLSTM with one forward"):
        to_onnx(NextWordLSTM(20, 5, 6, seed=0), None)
    with pytest.raises(ValueError, match=r"torch.float64.*expected a SentimentLSTM or TiedLSTM"):
        to_onnx(loud().double(), None)
    with pytest.raises(ValueError, match="vocab: got 9, expected 30 words, the model's rows"):
        to_onnx(loud(), VOCAB)
