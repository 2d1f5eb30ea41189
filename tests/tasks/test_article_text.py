"""The article's text preparation: each of its slips fails a check that the package passes.

The slips are reconstructions of our own; notebook 02 measures what they do to the real reviews.
A check takes the slip or the package's way as a function, and asserts what must hold of it.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from fedlab_helpers.tasks.reviews import words as text
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.token_cache import TokenCache
from fedlab_helpers.tasks.reviews.words import Vocabulary, count_words, tokenize

TEXTS = ("房间很干净，满意", "书不好！不满意", "房间很干净，服务很好。", "键盘坏了，", "满意")
REVIEWS = [Review(words, number % 2, "any") for number, words in enumerate(TEXTS)]
TOKENS = [tokenize(words) for words in TEXTS]
VOCAB = Vocabulary.build(TOKENS, min_count=2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the tokens of these tests out of the reader's cache."""
    cache = TokenCache("test", tmp_path)
    monkeypatch.setattr(text, "_cache", lambda: cache)


# One id for padding and for unknown words


def encode_with_one_id(reviews):
    rows = [VOCAB.encode(tokenize(review.text)) for review in reviews]
    return pad_sequence(
        [torch.tensor([id_ if id_ > 1 else 0 for id_ in row]) for row in rows], batch_first=True
    )


def check_counting_ids_gives_the_lengths(encode):
    counted = (encode(REVIEWS) != 0).sum(dim=1)
    assert counted.tolist() == [len(tokens) for tokens in TOKENS]


def check_unknown_words_are_learned(encode):
    """Of the positions that pull at the table, as many as there are words do so."""
    table = torch.nn.Embedding(len(VOCAB), 1, padding_idx=0)
    table(encode(REVIEWS)).sum().backward()
    assert table.weight.grad.sum() == sum(map(len, TOKENS))


@pytest.mark.parametrize(
    "check", [check_counting_ids_gives_the_lengths, check_unknown_words_are_learned]
)
def test_one_id_for_both_loses_unknown_words_and_two_ids_keep_them(check):
    assert any(word not in VOCAB for tokens in TOKENS for word in tokens)
    with pytest.raises(AssertionError):
        check(encode_with_one_id)
    check(lambda reviews: encode_reviews(reviews, VOCAB).tokens)


# The state after the padding instead of the one after the last word


def check_padding_changes_no_answer(answer):
    """`answer` maps a model, ids (B, T) and lengths (B,) to logits."""
    model = SentimentLSTM(len(VOCAB), 6, 5, seed=0).eval()
    data = encode_reviews(REVIEWS, VOCAB)
    wider = torch.nn.functional.pad(data.tokens, (0, 7))
    with torch.no_grad():
        difference = answer(model, wider, data.lengths) - answer(model, data.tokens, data.lengths)
    assert difference.abs().max() < 1e-6


def read_final_state(model, tokens, lengths):
    _, (h_n, _) = model.recurrent(model.embedding(tokens))
    return model.head(h_n[-1])


def test_the_final_state_answers_for_the_padding_and_the_model_for_the_review():
    with pytest.raises(AssertionError):
        check_padding_changes_no_answer(read_final_state)
    check_padding_changes_no_answer(lambda model, tokens, lengths: model(tokens, lengths))


# Labels that each client numbers by itself


def check_processes_agree(program, *arguments):
    """A program prints the same whatever salt its process adds to the hash of strings."""
    said = set()
    for salt in (0, 1, 2):  # of a set of two words, 0 and 1 give another order
        salted = os.environ | {"PYTHONHASHSEED": str(salt)}
        command = [sys.executable, "-c", program, *arguments]
        said.add(subprocess.run(command, env=salted, check=True, stdout=subprocess.PIPE).stdout)
    assert len(said) == 1


def test_clients_that_number_a_set_disagree_and_those_that_load_the_same_file_agree(tmp_path):
    with pytest.raises(AssertionError):
        check_processes_agree("print(list(set(['negative', 'positive'])))")
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n好,positive\n坏,negative\n", "utf-8")
    program = (
        "import sys; from fedlab_helpers.tasks.reviews.corpus import load_reviews\n"
        "print([review.label for review in load_reviews(sys.argv[1])])"
    )
    check_processes_agree(program, str(path))


# One vocabulary built from everybody's text


def check_only_words_are_counted(send):
    """What `send` makes of a client's texts does not tell in which text or order a word stood."""
    words = sorted(word for tokens in TOKENS for word in tokens)
    assert send([words[:10], words[10:]]) == send(TOKENS)


def test_sending_texts_tells_more_than_sending_counts():
    with pytest.raises(AssertionError):
        check_only_words_are_counted(lambda token_lists: token_lists)
    check_only_words_are_counted(count_words)


def test_a_threshold_on_counts_is_none_on_clients():
    """A limit of counting at home, told in the notebook: one client can pass any threshold."""
    clients = [Counter({"number": 3}), Counter({"good": 2}), Counter({"good": 2})]
    assert "number" in Vocabulary.from_counts(clients, min_count=3)
