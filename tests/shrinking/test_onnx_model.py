"""The exported graph: the same answers as PyTorch's, in few bytes, with its words inside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from fedlab_helpers.core.training import LocalConfig, predict, train
from fedlab_helpers.shrinking import Rounded, classify
from fedlab_helpers.shrinking.classify import answer
from fedlab_helpers.shrinking.onnx_model import quantize_dynamically, run_onnx, sealed, to_onnx
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import load_task
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


def test_what_does_not_fit_is_named(small_model):
    with pytest.raises(ValueError, match="bits: got 16, expected 32, 8, 4 or 2"):
        to_onnx(small_model(), VOCAB, bits=16)
    with pytest.raises(ValueError, match="vocab: got 3, expected 50 words, the model's rows"):
        to_onnx(small_model(), Vocabulary(["one"]))
    odd = Vocabulary([*VOCAB.words[2:-1], "a\nb"])
    with pytest.raises(ValueError, match="expected words without line breaks"):
        to_onnx(small_model(), odd)


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize(("name", "value"), [("embedding.weight", "nan"), ("head.bias", "inf")])
def test_a_model_that_diverged_is_refused(small_model, name, value, bits):
    model = small_model()
    with torch.no_grad():
        model.get_parameter(name)[1] = float(value)
    with pytest.raises(ValueError, match=f"model, {name}: got 'NaN or inf', expected finite"):
        to_onnx(model, VOCAB, bits=bits)


def test_words_names_and_length_are_in_the_file_or_nothing(small_model):
    vocab = Vocabulary(VOCAB.words[2:], classes=("差评", "好评"), max_len=9)
    full, words, bare = (
        session_of(to_onnx(small_model(), each)).get_modelmeta().custom_metadata_map
        for each in (vocab, VOCAB, None)
    )
    assert (json.loads(full["classes"]), full["max_len"]) == (["差评", "好评"], "9")
    assert ("<padding>", "<unknown>", *words.pop("words").split("\n")) == VOCAB.words
    assert words == bare == {}
    three = Vocabulary(VOCAB.words[2:], classes=("差", "中", "好"))
    with pytest.raises(ValueError, match=r"vocab: got .*expected the model's 2 classes"):
        to_onnx(small_model(), three)


def test_reviews_that_the_runtime_cannot_take_are_refused(small_model, reviews):
    content, data = to_onnx(small_model(pooling="mean"), VOCAB).SerializeToString(), reviews(3)
    with pytest.raises(ValueError, match="reviews: got 0, expected at least one"):
        run_onnx(content, data.subset([]))
    nothing, inside, below, beyond = (data.tokens.clone() for _ in range(4))
    nothing[1], inside[0, 0], below[2, 0] = 0, 0, -1
    beyond[0, -1], lengths = 5, data.lengths.clamp(max=beyond.shape[1] - 1)
    for tokens in (nothing, inside, below):
        with pytest.raises(ValueError, match="padding inside a review"):
            run_onnx(content, EncodedReviews(tokens, data.lengths, data.labels))
    with pytest.raises(ValueError, match="word id outside"):
        run_onnx(content, EncodedReviews(beyond, lengths, data.labels))


# The script


SENTENCE = "房间很干净,就是 早餐一般"
WORDS = ["房间", "很", "干净", "早餐", "差"]


def tiny(path, classes=None, max_len=None, num_classes=2):
    """Write a model of five words, and return the probabilities it gives for some words."""
    model = SentimentLSTM(7, 4, 3, num_classes, pooling="mean", seed=0).eval()
    vocab = Vocabulary(WORDS, classes=classes, max_len=max_len)
    path.write_bytes(sealed(to_onnx(model, vocab)))

    def shares(words):
        ids = torch.tensor([vocab.encode(words)])
        return model(ids, torch.tensor([ids.shape[1]])).detach().softmax(1)[0].tolist()

    return shares


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.onnx"
    shares = tiny(path, ("negative", "positive"))
    share = f"{shares(tokenize(SENTENCE))[1]:.1%}"
    return path, f"positive: {share} (3 of 7 words unknown)"


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", **options,
    )  # fmt: skip


def test_the_script_answers_as_the_model_does_and_needs_no_torch(model_file):
    path, expected = model_file
    done = command("-m", "fedlab_helpers.shrinking.classify", path, SENTENCE)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fedlab_helpers.__main__ import main\n"
        f"sys.exit(main(['classify', {str(model_file[0])!r}, {SENTENCE!r}]))"
    )
    assert command("-c", code).stdout.strip() == model_file[1]


@pytest.mark.parametrize("options", [(), ("-OO",)])
@pytest.mark.parametrize("arguments", [("model.onnx",), ("missing.onnx", "好")])
def test_what_cannot_be_answered_ends_with_a_message(options, arguments):
    done = command(*options, "-m", "fedlab_helpers.shrinking.classify", *arguments)
    assert done.returncode != 0
    assert ("usage" if len(arguments) != 2 else "missing.onnx: no model") in done.stderr
    assert not done.stdout


def test_an_answer_that_a_terminal_cannot_show_is_told_all_the_same(tmp_path):
    tiny(tmp_path / "model.onnx", ("差评", "好评"))
    code = ["-m", "fedlab_helpers", "classify", tmp_path / "model.onnx", SENTENCE]
    done = command(*code, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.stdout.startswith(("\\u597d\\u8bc4: ", "\\u5dee\\u8bc4: "))


@pytest.mark.parametrize(
    ("classes", "names"),
    [("差评 好评", None), ("1 0", None), ("positive other", None), ("甲 乙 丙", None),
     ("0 1", "positive"), (None, "class 0,class 1,class 2")],
)  # fmt: skip
def test_a_class_is_called_by_its_name_or_number(tmp_path, classes, names):
    classes = classes and classes.split()
    names = names.split(",") if names else classes
    path, count = tmp_path / "model.onnx", len(classes or names)
    shares = tiny(path, classes, num_classes=count)
    for word in ("房间", "干净", "差"):
        share = shares([word])
        best = 1 if names == ["positive"] else max(range(count), key=share.__getitem__)
        assert answer(path, word) == f"{names[best % len(names)]}: {share[best]:.1%}"


@pytest.mark.parametrize(("max_len", "cut"), [(None, 64), (3, 3), (90, 90)])
def test_a_long_sentence_is_cut_as_in_training(tmp_path, max_len, cut):
    shares = tiny(tmp_path / "model.onnx", ("0", "1"), max_len)
    words = ["干净"] + ["差"] * 99
    said = answer(tmp_path / "model.onnx", ",".join(words))
    with_commas = [word for one in words for word in (one, ",")]
    counts = f" ({cut // 2} of {cut} words unknown, {199 - cut} more not read)"
    assert said == f"positive: {shares(with_commas[:cut])[1]:.1%}" + counts
    other = with_commas[: cut + 1 if cut < 9 else cut // 2]
    assert not said.startswith(f"positive: {shares(other)[1]:.1%} ")


def test_a_file_whose_texts_were_cut_with_other_words_is_refused(model_file, monkeypatch):
    path, said = model_file
    monkeypatch.setattr(classify, "dictionary", lambda: "jieba-another")
    with pytest.raises(ValueError, match=r"model.onnx: cut with other words than here.*add_word"):
        answer(path, SENTENCE)
    made = onnx.load(path)
    del made.metadata_props[-2:]  # a file of before, which does not say
    content = made.SerializeToString()
    path.write_bytes(content + classify.seal(content))
    assert answer(path, SENTENCE) == said


def test_words_given_to_jieba_make_another_file(tmp_path):
    code = (
        "import sys, jieba; jieba.setLogLevel(60); jieba.add_word('小笼包子铺'); import torch\n"
        "from fedlab_helpers import SentimentLSTM, Vocabulary\n"
        "from fedlab_helpers.shrinking.onnx_model import sealed, to_onnx\n"
        "made = to_onnx(SentimentLSTM(3, 4, 3, seed=0), Vocabulary(['小笼包子铺']))\n"
        "open(sys.argv[1], 'wb').write(sealed(made))\n"
        "from fedlab_helpers.shrinking.classify import answer\n"
        "print(answer(sys.argv[1], '小笼包子铺'))"
    )
    done = command("-W", "ignore", "-c", code, tmp_path / "own.onnx")
    assert done.stdout.startswith("class "), done.stderr
    done = command("-m", "fedlab_helpers", "classify", tmp_path / "own.onnx", "小笼包子铺")
    assert done.returncode == 1
    assert "cut with other words than here" in done.stderr


def test_what_is_no_model_of_ours_is_told(tmp_path):
    junk, bare = tmp_path / "junk.onnx", tmp_path / "bare.onnx"
    junk.write_bytes(b"junk")
    bare.write_bytes(sealed(to_onnx(SentimentLSTM(7, 4, 3, seed=0), None)))
    for path in (junk, bare, tmp_path / "missing.onnx"):
        with pytest.raises(ValueError, match=rf"{path.name}: no model with its words"):
            answer(path, SENTENCE)


def test_a_file_with_any_bit_turned_round_is_refused(model_file, monkeypatch):
    path, said = model_file
    whole = path.read_bytes()
    assert onnx.load(path).metadata_props[-1].key == "sha256"  # it is a model all the same
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        monkeypatch.setattr(Path, "read_bytes", lambda _, content=bytes(damaged): content)
        with pytest.raises(ValueError, match="its end is not its checksum"):
            answer(path, SENTENCE)
    for other in (whole[:-1], whole[1:], whole + b"\0", whole[:-76], whole[-76:], b""):
        monkeypatch.setattr(Path, "read_bytes", lambda _, content=other: content)
        with pytest.raises(ValueError, match="its end is not its checksum"):
            answer(path, SENTENCE)
    monkeypatch.undo()
    assert answer(path, SENTENCE) == said


@pytest.mark.parametrize("sentence", ["The room is clean.", "屏幕, 键盘!"])
def test_a_sentence_of_unknown_words_gets_no_answer(tmp_path, sentence):
    model = SentimentLSTM(5, 4, 3, pooling="mean", seed=0)
    made = to_onnx(model, Vocabulary([",", ".", "!"]))
    (tmp_path / "model.onnx").write_bytes(sealed(made))
    with pytest.raises(ValueError, match=r"knows none of the \d words that it would read"):
        answer(tmp_path / "model.onnx", sentence)


@pytest.mark.parametrize("sentence", ["", "  \n", "\u200b\ufeff", "\udce5"])
def test_a_sentence_without_a_word_is_told(model_file, sentence):
    with pytest.raises(ValueError, match="the sentence has no word"):
        answer(model_file[0], sentence)


@pytest.mark.parametrize("labels", ["1/0", "赞/踩", "甲/乙"])
def test_from_a_readers_file_to_the_answer(tmp_path, labels):
    """What class a clean room is of, whatever order the labels sort in."""
    good, bad = labels.split("/")
    rows = [f"房间很干净{i},{good}\n房间很脏乱{i},{bad}\n" for i in range(40)]
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(rows), "utf-8")
    options = {"labels": (bad, good)} if good == "甲" else {}
    task = load_task(tmp_path / "own.csv", min_count=1, **options)
    model = SentimentLSTM(len(task.vocab), 8, 8, pooling="mean", seed=0)
    train(model, task.train, LocalConfig(epochs=15, lr=0.03))
    (tmp_path / "model.onnx").write_bytes(sealed(to_onnx(model, task.vocab)))
    name, share = answer(tmp_path / "model.onnx", "房间很干净").split(": ")
    assert (name, float(share.rstrip("%")) > 60) == ("positive" if good == "1" else good, True)
