"""The article's text preparation: each of its slips fails a check that the package passes.

The slips are reconstructions of our own; notebook 02 measures what they do to the real reviews.
A check takes the slip or the package's way as a function, and asserts what must hold of it.
"""

import csv
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from fedlab_helpers.tasks.reviews import words as text
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import load_task
from fedlab_helpers.tasks.reviews.token_cache import TokenCache
from fedlab_helpers.tasks.reviews.words import Vocabulary, count_words, tokenize

PHRASES = ("房间很干净，", "服务很好。", "书不好！", "键盘坏了，", "满意", "不")
SALTS = range(8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the tokens of these tests out of the reader's cache."""
    cache = TokenCache("test", tmp_path)
    monkeypatch.setattr(text, "_cache", lambda: cache)


def made_up_reviews(n: int = 12) -> list[Review]:
    rng = random.Random(0)
    texts = ("".join(rng.choices(PHRASES, k=rng.randint(1, 5))) for _ in range(n))
    return [Review(words, number % 2, "any") for number, words in enumerate(texts)]


REVIEWS = made_up_reviews()
TOKENS = [tokenize(review.text) for review in REVIEWS]
VOCAB = Vocabulary.build(TOKENS, min_count=4)


# A comprehension that is not Python


def check_frequent_words_are_numbered(number):
    """`number` maps token lists and min_count to ids: of the frequent words, from 2, no gap."""
    for min_count in (1, 2, 4):
        ids = number(TOKENS, min_count)
        counts = count_words(TOKENS)
        assert set(ids) == {word for word in counts if counts[word] >= min_count}
        assert sorted(ids.values()) == list(range(2, len(ids) + 2))


def one_line(source):
    def number(token_lists, min_count):
        counts = count_words(token_lists)
        ranked = [word for word, _ in counts.most_common()]
        return eval(source, {"counts": counts, "ranked": ranked, "least": min_count})

    return number


def by_vocabulary(token_lists, min_count):
    words = Vocabulary.build(token_lists, min_count).words
    return {word: id_ for id_, word in enumerate(words) if id_ >= 2}


def test_a_condition_inside_the_call_does_not_compile():
    slip = one_line("{w: i for i, w in enumerate(ranked if counts[w] >= least, start=2)}")
    with pytest.raises(SyntaxError):
        check_frequent_words_are_numbered(slip)


def test_a_condition_behind_the_call_numbers_frequent_words_as_the_vocabulary_does():
    mended = one_line("{w: i for i, w in enumerate(ranked, start=2) if counts[w] >= least}")
    check_frequent_words_are_numbered(mended)
    check_frequent_words_are_numbered(by_vocabulary)


# Sequences that are never padded


def check_reviews_become_a_rectangle(encode):
    """`encode` maps reviews to ids (N, T), of which each row begins with its review."""
    ids = encode(REVIEWS)
    assert ids.shape == (len(REVIEWS), max(map(len, TOKENS)))
    for row, tokens in zip(ids.tolist(), TOKENS, strict=True):
        assert row[: len(tokens)] == VOCAB.encode(tokens)
        assert not any(row[len(tokens) :])


def test_lists_of_different_lengths_make_no_tensor():
    def slip(reviews):
        return torch.tensor([VOCAB.encode(tokenize(review.text)) for review in reviews])

    with pytest.raises(ValueError, match="expected sequence of length"):
        check_reviews_become_a_rectangle(slip)


def test_encoded_reviews_are_a_rectangle():
    check_reviews_become_a_rectangle(lambda reviews: encode_reviews(reviews, VOCAB).tokens)


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
    for salt in SALTS:
        salted = os.environ | {"PYTHONHASHSEED": str(salt)}
        command = [sys.executable, "-c", program, *arguments]
        said.add(subprocess.run(command, env=salted, check=True, stdout=subprocess.PIPE).stdout)
    assert len(said) == 1


def test_clients_that_number_a_set_disagree_on_which_class_is_one():
    program = "print(list(enumerate(set(['negative', 'positive']))))"
    with pytest.raises(AssertionError):
        check_processes_agree(program)


def test_clients_that_load_the_same_file_agree(tmp_path):
    path = tmp_path / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [("text", "label"), ("好", "positive"), ("坏", "negative")]
        csv.writer(file).writerows(rows)
    program = (
        "import sys; from fedlab_helpers.tasks.reviews.corpus import load_reviews\n"
        "print([review.label for review in load_reviews(sys.argv[1])])"
    )
    check_processes_agree(program, str(path))


def check_a_label_means_the_same_at_every_client(deal):
    """`deal` maps labels and index lists to the labels of each client, here of one class each."""
    labels = [1, 0, 1, 0, 1]
    parts = [[1, 3], [0, 2, 4], [0, 1]]
    assert [list(mine) for mine in deal(labels, parts)] == [[0, 0], [1, 1, 1], [1, 0]]


def number_at_home(labels, parts):
    for part in parts:
        mine = [labels[i] for i in part]
        number = {label: n for n, label in enumerate(set(mine))}
        yield [number[label] for label in mine]


def number_once(labels, parts):
    ones = torch.ones(len(labels), dtype=torch.int64)
    data = EncodedReviews(ones[:, None], ones, torch.tensor(labels))
    return [data.subset(part).labels.tolist() for part in parts]


def test_a_client_of_one_class_calls_it_zero_unless_labels_are_numbered_once():
    with pytest.raises(AssertionError):
        check_a_label_means_the_same_at_every_client(number_at_home)
    check_a_label_means_the_same_at_every_client(number_once)


# One vocabulary built from everybody's text


def check_only_words_are_counted(send):
    """What `send` makes of a client's texts does not tell in which text or order a word stood."""
    words = [word for tokens in TOKENS for word in tokens]
    random.Random(1).shuffle(words)
    assert send([words[:10], words[10:]]) == send(TOKENS)


def test_sending_texts_tells_more_than_sending_counts_and_gives_no_other_vocabulary():
    with pytest.raises(AssertionError):
        check_only_words_are_counted(lambda token_lists: token_lists)
    check_only_words_are_counted(count_words)
    clients = [count_words(TOKENS[start::3]) for start in range(3)]
    assert Vocabulary.from_counts(clients).words == Vocabulary.build(TOKENS).words


def check_no_word_is_known_from_the_test_alone(make_vocab, task):
    parts = (task.train_reviews, task.validation_reviews, task.test_reviews)
    train, *_, test = ({review.text for review in part} for part in parts)
    vocab = make_vocab(task)
    assert all(word in vocab for word in train)
    assert not any(word in vocab for word in test)


def test_everybodys_words_hold_those_of_the_test(tmp_path):
    path = tmp_path / "one_word_each.csv"
    lines = (f"word{number},{number % 2}" for number in range(40))
    path.write_text("\n".join(("text,label", *lines)), encoding="utf-8")

    def everybodys(task):
        everything = (*task.train_reviews, *task.validation_reviews, *task.test_reviews)
        return Vocabulary.build([tokenize(review.text) for review in everything], min_count=1)

    task = load_task(str(path), min_count=1)
    with pytest.raises(AssertionError):
        check_no_word_is_known_from_the_test_alone(everybodys, task)
    check_no_word_is_known_from_the_test_alone(lambda task: task.vocab, task)


def test_a_threshold_on_counts_is_none_on_clients():
    """A limit of counting at home, told in the notebook: one client can pass any threshold."""
    clients = [Counter({"number": 3}), Counter({"good": 2}), Counter({"good": 2})]
    assert "number" in Vocabulary.from_counts(clients, min_count=3)
