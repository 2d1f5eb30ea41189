"""From text to tensors: quiet tokens, a vocabulary without texts, batches that lose nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.tasks.reviews import words
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.token_cache import TokenCache
from fedlab_helpers.tasks.reviews.words import PADDING, UNKNOWN, Vocabulary, count_words

TOKEN_LISTS = st.lists(st.lists(st.sampled_from("好坏书房很不"), max_size=6), max_size=8)
quick = settings(max_examples=30)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the tokens of these tests out of the reader's cache."""
    cache = TokenCache("test", tmp_path)
    monkeypatch.setattr(words, "_cache", lambda: cache)
    return cache


def numbered(lengths):
    """Return reviews of these lengths; a review's number is its label and all of its words."""
    lengths = torch.tensor(lengths, dtype=torch.int64)
    labels = torch.arange(len(lengths))
    inside = torch.arange(max(lengths.tolist(), default=1)) < lengths[:, None]
    return EncodedReviews((labels[:, None] + 2) * inside, lengths, labels)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# Tokens


def test_tokenize_cuts_words_and_drops_white_space():
    assert words.tokenize("这家酒店 很\u3000好\n") == ["这家", "酒店", "很", "好"]
    assert words.tokenize("") == words.tokenize(" \u3000\t") == []


def test_tokenize_all_goes_through_the_cache(own_cache, monkeypatch):
    texts = ["酒店很好", "", "书不好"]
    expected = [words.tokenize(one) for one in texts]
    assert words.tokenize_all(texts) == expected
    assert own_cache.path.is_file()
    monkeypatch.setattr(words, "tokenize", lambda one: pytest.fail("tokenised again"))
    assert words.tokenize_all(texts) == expected


def test_one_text_is_not_taken_for_many():
    with pytest.raises(ValueError, match="texts: got '好', expected a list of texts"):
        words.tokenize_all("好")


def test_jieba_is_silent_also_when_it_is_compiled_and_builds_its_dictionary(tmp_path):
    """jieba's escapes warn whenever Python compiles them: installers need not have done it."""
    script = (
        "import sys, warnings\n"
        "import fedlab_helpers.tasks.reviews.words as text\n"
        f"sys.pycache_prefix = {str(tmp_path / 'bytecode')!r}\n"
        "warnings.simplefilter('error')\n"
        "assert 'jieba' not in sys.modules\n"
        "print(len(text.tokenize('这家酒店很好')))\n"
    )
    environment = os.environ | {name: str(tmp_path) for name in ("TMPDIR", "TEMP", "TMP")}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "4", "")


# Vocabulary


def test_ids_0_and_1_are_reserved():
    vocab = Vocabulary(["好", "坏"])
    assert (PADDING, UNKNOWN) == (0, 1)
    assert vocab.encode(["好", "坏", "书"]) == [2, 3, UNKNOWN]
    assert vocab.decode([0, 1, 2, 3]) == ["<padding>", "<unknown>", "好", "坏"]
    assert len(vocab) == 4
    assert "好" in vocab
    assert "书" not in vocab


def test_text_that_looks_like_a_reserved_word_is_unknown():
    assert Vocabulary(["好"]).encode(["<padding>", "<unknown>"]) == [UNKNOWN, UNKNOWN]
    assert "<padding>" not in Vocabulary([])


def test_frequent_words_come_first_and_ties_in_the_order_of_their_characters():
    lists = [["b", "a", "c"], ["c", "a", "b"], ["c", "d"]]
    assert Vocabulary.build(lists, min_count=1).words[2:] == ("c", "a", "b", "d")


def test_words_seen_less_often_than_min_count_are_unknown():
    lists = [["a"] * 4 + ["b"] * 3 + ["c"] * 2]
    assert Vocabulary.build(lists).words[2:] == ("a", "b")
    assert Vocabulary.build(lists, min_count=4).words[2:] == ("a",)
    assert Vocabulary.build(lists, min_count=5).words[2:] == ()
    with pytest.raises(ValueError, match="min_count: got 0, expected an integer of at least 1"):
        Vocabulary.build(lists, min_count=0)


@quick
@given(
    lists=TOKEN_LISTS,
    owners=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    order=st.permutations(range(4)),
    min_count=st.integers(1, 4),
)
def test_counts_of_clients_give_the_vocabulary_of_the_pooled_texts(lists, owners, order, min_count):
    clients = [
        [tokens for tokens, owner in zip(lists, owners, strict=False) if owner == client]
        for client in order
    ]
    federated = Vocabulary.from_counts(map(count_words, clients), min_count)
    assert federated.words == Vocabulary.build(lists, min_count).words


# Reviews as tensors


def test_reviews_are_cut_off_padded_and_labelled():
    vocab = Vocabulary(["酒店", "很", "好"])
    reviews = [
        Review("酒店很好", 1, "hotel"),
        Review("很 书", 0, "hotel"),
        Review(" ", 1, "other"),
    ]
    data = encode_reviews(reviews, vocab)
    assert data.tokens.tolist() == [[2, 3, 4], [3, UNKNOWN, 0], [UNKNOWN, 0, 0]]
    assert data.lengths.tolist() == [3, 2, 1]
    assert data.labels.tolist() == [1, 0, 1]
    assert {t.dtype for t in (data.tokens, data.lengths, data.labels)} == {torch.int64}
    short = encode_reviews(reviews, vocab, max_len=2)
    assert short.tokens.tolist() == [[2, 3], [3, UNKNOWN], [UNKNOWN, 0]]
    assert short.lengths.tolist() == [2, 2, 1]


@pytest.mark.parametrize(("known", "told", "read"), [(2, None, 2), (None, None, 64), (90, 3, 3)])
def test_as_many_words_are_read_as_the_vocabulary_says(known, told, read):
    reviews = [Review("好" + "，好" * 60, 1, "other")]
    data = encode_reviews(reviews, Vocabulary(["好"], max_len=known), told)
    assert data.lengths.tolist() == [read]


def test_encode_reviews_refuses_nothing_and_no_words():
    with pytest.raises(ValueError, match=r"reviews: got \[\], expected at least one"):
        encode_reviews([], Vocabulary([]))
    with pytest.raises(ValueError, match="max_len: got 0, expected an integer of at least 1"):
        encode_reviews([Review("好", 1, "other")], Vocabulary([]), max_len=0)


@pytest.mark.parametrize(
    "shapes", [((3,), (3,), (3,)), ((3, 2), (2,), (3,)), ((3, 2), (3,), (3, 1)), ((), (), ())]
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    tensors = [torch.ones(shape, dtype=torch.int64) for shape in shapes]
    with pytest.raises(ValueError, match=r"EncodedReviews|classes: targets"):
        EncodedReviews(*tensors)


@pytest.mark.parametrize("lengths", [[0, 2], [1, 3], [-1, 1]])
def test_lengths_outside_the_tokens_are_refused(lengths):
    ones = torch.ones(2, dtype=torch.int64)
    low, high = lengths
    with pytest.raises(ValueError, match=rf"lengths from {low} to {high}, expected them in 1..2"):
        EncodedReviews(ones.expand(2, 2), torch.tensor(lengths), ones)


def test_subset_takes_positions_in_their_order_and_copies():
    data = numbered([1, 2, 3])
    for indices in ([2, 0], np.array([2, 0]), torch.tensor([2, 0], dtype=torch.int32), range(2, 3)):
        part = data.subset(indices)
        assert part.labels.tolist() == list(map(int, indices))
        assert part.tokens.equal(data.tokens[list(map(int, indices))])
        assert part.lengths.equal(data.lengths[list(map(int, indices))])
    part.tokens.zero_()
    assert data.tokens[2].tolist() == [4, 4, 4]
    assert len(data.subset([])) == 0
    assert len(data) == 3


def test_subset_does_not_take_a_mask_for_positions():
    data = numbered([1, 2, 3])
    for wrong in (data.labels == 2, np.array([True, False, True]), [0.5, 1.0]):
        with pytest.raises(ValueError, match=r"indices: got torch\.\w+, expected the positions"):
            data.subset(wrong)


# Batches


@quick
@given(
    lengths=st.lists(st.integers(1, 9), max_size=40),
    size=st.one_of(st.none(), st.integers(1, 12)),
    seed=st.one_of(st.none(), st.integers(0, 99)),
)
def test_batches_hold_every_review_once_and_are_trimmed(lengths, size, seed):
    data = numbered(lengths)
    batches = list(data.batches(size, None if seed is None else rng(seed)))
    labels = torch.cat([batch.labels for batch in batches]).tolist() if batches else []
    assert (labels if seed is None else sorted(labels)) == list(range(len(lengths)))
    full = size or max(1, len(lengths))
    assert len(batches) == -(-len(lengths) // full)
    for (tokens, held), reviews in batches:
        assert 1 <= len(reviews) <= full
        assert tokens.shape == (len(reviews), int(held.max()))
        assert held.equal(data.lengths[reviews])
        assert tokens.equal(data.tokens[reviews, : tokens.shape[1]])


def padding(batches):
    return sum(batch.tokens.numel() - int(batch.lengths.sum()) for batch in batches)


def test_reviews_of_similar_length_share_a_batch():
    data = numbered(torch.randint(1, 65, (500,), generator=rng()).tolist())
    bucketed, unbucketed = padding(data.batches(16, rng())), padding(data.batches(16))
    assert bucketed < unbucketed / 4


def test_the_generator_decides_the_batches():
    data = numbered([1 + i % 7 for i in range(100)])

    def orders(generator):
        epochs = [data.batches(8, generator) for _ in range(2)]
        return [torch.cat([batch.labels for batch in epoch]).tolist() for epoch in epochs]

    first, second = orders(rng(0))
    assert [first, second] == orders(rng(0))
    assert first != second
    assert first != orders(rng(1))[0]


def test_batches_of_one_length_are_shuffled_and_do_not_use_the_global_generator():
    data = numbered([4] * 64)
    before = torch.get_rng_state()
    (batch,) = data.batches(None, rng())
    assert sorted(batch.labels.tolist()) == list(range(64)) != batch.labels.tolist()
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("size", [0, -3])
def test_batch_sizes_below_1_are_refused(size):
    with pytest.raises(ValueError, match=f"batch_size: got {size}, expected at least 1, or None"):
        next(numbered([1]).batches(size))
