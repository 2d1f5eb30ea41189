"""The exported graph: the same answers as PyTorch's, in few bytes, with its words inside."""

import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch

from fedlab_helpers.core.training import LocalConfig, predict, train
from fedlab_helpers.shrinking import Rounded, classify
from fedlab_helpers.shrinking.onnx_model import quantize_dynamically, run_onnx, to_onnx
from fedlab_helpers.tasks.reviews.model import CELLS, SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize

VOCAB = Vocabulary(f"word{i}" for i in range(48))  # of the small model's 50 ids
each_cell = pytest.mark.parametrize("cell", sorted(CELLS))
each_pooling = pytest.mark.parametrize("pooling", ["mean", "last"])


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def answers(model: onnx.ModelProto, tokens: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(session_of(model).run(None, {"tokens": tokens.numpy()})[0])


@each_cell
@each_pooling
def test_both_say_the_same(small_model, reviews, cell, pooling):
    model, data = small_model(cell=cell, pooling=pooling), reviews(60)
    train(model, data, LocalConfig(epochs=2, lr=0.05))
    torch.testing.assert_close(
        answers(to_onnx(model, VOCAB), data.tokens), predict(model, data), atol=1e-4, rtol=0
    )


@each_pooling
def test_padding_changes_nothing(small_model, reviews, pooling):
    model, data = to_onnx(small_model(pooling=pooling), VOCAB), reviews(5)
    wider = torch.nn.functional.pad(data.tokens, (0, 7))
    torch.testing.assert_close(answers(model, wider), answers(model, data.tokens))
    alone = data.tokens[2:3, : data.lengths[2]]
    torch.testing.assert_close(answers(model, alone), answers(model, data.tokens)[2:3])


@each_cell
@pytest.mark.parametrize(
    ("bits", "size", "most"), [(8, 0.27, 0.02), (4, 0.15, 0.2), (2, 0.09, 1.0)]
)
def test_few_bits_take_little_and_say_nearly_the_same(reviews, cell, bits, size, most):
    model, data = SentimentLSTM(2000, 32, 24, cell=cell, pooling="mean", seed=0), reviews(60)
    vocab = Vocabulary(f"w{i}" for i in range(1998))
    whole, narrow = (to_onnx(model, vocab, bits=each) for each in (32, bits))
    words = len("\n".join(vocab.words[2:]))
    sizes = [len(made.SerializeToString()) - words for made in (whole, narrow)]
    assert sizes[1] < size * sizes[0]
    off = (answers(narrow, data.tokens) - answers(whole, data.tokens)).abs().max()
    assert 0 < float(off) < most


@each_cell
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_the_file_says_what_the_rounded_model_says(small_model, reviews, cell, bits):
    model, data = small_model(cell=cell), reviews(30)
    got = run_onnx(to_onnx(model, VOCAB, bits=bits).SerializeToString(), data)
    torch.testing.assert_close(got, predict(Rounded(model, bits), data), atol=1e-5, rtol=0)


def test_onnx_runtimes_own_quantization_shrinks_it_too(small_model, tmp_path, caplog, reviews):
    model = SentimentLSTM(2000, 32, 24, pooling="mean", seed=0)
    made = to_onnx(model, Vocabulary(f"w{i}" for i in range(1998)))
    onnx.save(made, tmp_path / "whole.onnx")
    quantize_dynamically(tmp_path / "whole.onnx", tmp_path / "small.onnx")
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.4 * sizes[0]
    data = reviews(40)
    small = answers(onnx.load(tmp_path / "small.onnx"), data.tokens)
    assert float((small - predict(model, data)).abs().max()) < 0.05
    assert not caplog.records


def test_the_words_are_in_the_file(small_model):
    made = to_onnx(small_model(), VOCAB)
    words = session_of(made).get_modelmeta().custom_metadata_map["words"].split("\n")
    assert ("<padding>", "<unknown>", *words) == VOCAB.words


def test_what_does_not_fit_is_named(small_model):
    with pytest.raises(ValueError, match="bits: got 16, expected 32, 8, 4 or 2"):
        to_onnx(small_model(), VOCAB, bits=16)
    with pytest.raises(ValueError, match="vocab: got 3 words, expected 50, the model's rows"):
        to_onnx(small_model(), Vocabulary(["one"]))
    odd = Vocabulary([*VOCAB.words[2:-1], "a\nb"])
    with pytest.raises(ValueError, match="expected words without line breaks"):
        to_onnx(small_model(), odd)


def test_a_file_may_hold_no_words(small_model, reviews):
    bare, data = to_onnx(small_model(), None), reviews(5)
    assert not session_of(bare).get_modelmeta().custom_metadata_map
    assert torch.equal(
        answers(bare, data.tokens), answers(to_onnx(small_model(), VOCAB), data.tokens)
    )


# The script


SENTENCE = "房间很干净,就是 早餐一般"


@pytest.fixture
def model_file(tmp_path):
    words = ["房间", "很", "干净", "早餐", "差"]
    model = SentimentLSTM(7, 4, 3, pooling="mean", seed=0)
    path = tmp_path / "model.onnx"
    onnx.save(to_onnx(model, Vocabulary(words)), path)
    ids = [Vocabulary(words).encode(tokenize(SENTENCE))]
    logits = model.eval()(torch.tensor(ids), torch.tensor([len(ids[0])]))
    return path, f"positive: {float(logits.detach().softmax(1)[0, 1]):.1%}"


def test_the_script_answers_as_the_model_does(model_file):
    path, expected = model_file
    command = [sys.executable, "-m", "fedlab_helpers.shrinking.classify", str(path), SENTENCE]
    run = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert run.stdout.strip() == expected
    assert run.stderr == ""


def test_the_script_needs_no_torch(model_file):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fedlab_helpers.shrinking.classify import main\n"
        f"main({str(model_file[0])!r}, {SENTENCE!r})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert run.stdout.strip() == model_file[1]


def test_a_long_sentence_is_cut_as_in_training(model_file, capsys):
    path = str(model_file[0])
    for tail in ("", "差" * 40):
        classify.main(path, "房间,干净,早餐," * 11 + tail)
    assert len({*capsys.readouterr().out.splitlines()}) == 1
    classify.main(path, "房间,干净,早餐," * 5 + "差" * 40)
    assert capsys.readouterr().out


def test_what_is_no_model_of_ours_is_told(model_file, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"junk")
    bare, three = tmp_path / "bare.onnx", tmp_path / "three.onnx"
    model = SentimentLSTM(7, 4, 3, num_classes=3, seed=0)
    onnx.save(to_onnx(model, None), bare)
    onnx.save(to_onnx(model, Vocabulary(["房间", "很", "干净", "早餐", "差"])), three)
    for path in (junk, bare, tmp_path / "missing.onnx"):
        with pytest.raises(SystemExit, match=rf"{path.name}: no model with its words"):
            classify.main(str(path), SENTENCE)
    with pytest.raises(SystemExit, match="3 classes, expected negative and positive"):
        classify.main(str(three), SENTENCE)


def test_a_sentence_without_a_word_is_told(model_file):
    with pytest.raises(SystemExit, match="the sentence has no word"):
        classify.main(str(model_file[0]), "  \n")
