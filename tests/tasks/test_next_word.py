"""Next words: what is asked of a review, and a model that sees nothing of what follows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import make_reviews

from fedlab_helpers import LocalConfig, Plan, evaluate, run, strategies
from fedlab_helpers.core import rows, wire
from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.tasks import next_word
from fedlab_helpers.tasks.next_word import (
    NEXT_WORD,
    NextWordLSTM,
    TiedLSTM,
    keyboards,
    next_words,
    punctuation,
)
from fedlab_helpers.tasks.objectives import NextToken
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.words import Vocabulary

REVIEWS = EncodedReviews(
    torch.tensor([[5, 9, 7, 0], [4, 0, 0, 0], [3, 2, 6, 8]]),
    torch.tensor([3, 1, 4]),
    torch.tensor([0, 1, 1]),
)


def test_each_word_but_the_first_is_asked_once():
    data = next_words(REVIEWS, words=9)
    assert data.inputs[0].tolist() == [[5, 1, 0], [3, 2, 6]]
    assert data.inputs[1].tolist() == [2, 3]
    assert data.targets.tolist() == [[1, 7, NOT_ASKED], [2, 6, 8]]
    assert data.objective == NextToken(never=(0, 1))


def test_words_are_kept_up_to_a_number_and_ids_below_one():
    data = next_words(REVIEWS, words=7, max_len=2)
    assert data.inputs[0].tolist() == [[5], [3]]
    assert data.targets.tolist() == [[1], [2]]


@given(seed=st.integers(0, 99), words=st.integers(1, 60), max_len=st.integers(2, 12))
def test_a_review_asks_for_its_words_less_one(seed, words, max_len):
    reviews = make_reviews(6, seed)
    data = next_words(reviews, words, max_len)
    assert data.asked == int((reviews.lengths.clamp(max=max_len) - 1).sum())
    assert int(max(data.inputs[0].max(), data.targets.max())) < max(words, 2)


def test_what_stands_behind_a_review_changes_nothing():
    behind = torch.arange(4) >= REVIEWS.lengths[:, None]
    rubbish = REVIEWS.with_inputs(REVIEWS.tokens.masked_fill(behind, 6), REVIEWS.lengths)
    data, other = next_words(REVIEWS), next_words(rubbish)
    assert torch.equal(data.inputs[0], other.inputs[0])
    assert torch.equal(data.targets, other.targets)


def test_a_last_word_is_no_input_and_its_row_is_not_touched():
    _, touched = rows.select(next_words(REVIEWS))
    assert touched.tolist() == [0, 2, 3, 5, 6, 9]


def test_reviews_of_one_word_ask_nothing():
    assert len(next_words(REVIEWS.subset([1]))) == 0


def test_unknown_is_never_right():
    data = next_words(REVIEWS.subset([0]), words=9)
    sure = torch.full((1, 3, 9), 0.0)
    sure[0, 0, 1] = sure[0, 1, 7] = 20.0
    metrics = NEXT_WORD.metrics(NEXT_WORD.judge(sure, data.targets))
    assert metrics["loss"] == pytest.approx(0, abs=1e-6)
    assert metrics["recall@1"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "words: got 0, expected an integer of at least 1"),
        ({"max_len": 1}, "max_len: got 1, expected an integer of at least 2"),
        ({"max_len": 2.5}, "max_len: got 2.5, expected an integer of at least 2"),
    ],
)
def test_bad_sizes_of_examples_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        next_words(REVIEWS, **options)


# The model


def test_no_step_sees_what_follows_it():
    model, tokens = NextWordLSTM(20, 5, 6, seed=1), torch.tensor([[4, 7, 2, 9], [3, 5, 0, 0]])
    logits = model(tokens, torch.tensor([4, 2]))
    assert logits.shape == (2, 4, 20)
    for step in range(1, 5):
        shorter = model(tokens[:, :step], torch.tensor([step, min(step, 2)]))
        torch.testing.assert_close(shorter, logits[:, :step], atol=1e-6, rtol=1e-6)


def test_a_seed_repeats_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (NextWordLSTM(20, 5, 6, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.get_rng_state().equal(before)
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert not first["head.weight"].equal(other["head.weight"])
    assert first[NextWordLSTM.token_parameter].shape == (20, 5)
    assert first["recurrent.weight_hh_l0"].shape == (24, 6)


@pytest.mark.parametrize("name", ["vocab_size", "embedding_dim", "hidden_size"])
def test_bad_sizes_of_the_model_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: got 0, expected an integer of at least 1"):
        NextWordLSTM(**{"vocab_size": 20, name: 0})


def test_clients_teach_it_which_word_follows():
    """Words that count upwards: the next is always known."""
    steps, lengths = torch.arange(6), torch.full((12,), 6)

    def counted(seed):
        first = torch.randint(10, (12, 1), generator=torch.Generator().manual_seed(seed))
        return next_words(EncodedReviews(2 + (first + steps) % 10, lengths, lengths * 0))

    plan = Plan(6, local=LocalConfig(epochs=2, batch_size=4, lr=0.02), workers=1)
    model, test = NextWordLSTM(12, 8, 16, seed=0), counted(99)
    before = evaluate(model, test)["recall@1"]
    run(model, [counted(seed) for seed in range(3)], strategies.fedavg(), plan)
    assert evaluate(model, test)["recall@1"] > before + 0.5


# Words that are read and not asked for


def test_skipped_words_are_read_neither_asked_nor_proposed():
    data = next_words(REVIEWS, words=9, skip=[7, 2])
    assert data.inputs[0].tolist() == [[5, 1, 0], [3, 2, 6]]
    assert data.targets.tolist() == [[1, NOT_ASKED, NOT_ASKED], [NOT_ASKED, 6, 8]]
    assert data.objective == NextToken(never=(0, 1, 7, 2))
    sure = torch.zeros(2, 3, 9)
    sure[..., 7], sure[1, 1, 6], sure[1, 2, 2] = 9.0, 5.0, 20.0
    metrics = data.objective.metrics(data.objective.judge(sure, data.targets))
    assert metrics["recall@1"] == pytest.approx(1 / 3)  # 6 is the best of those that are proposed


@given(seed=st.integers(0, 99), skip=st.sets(st.integers(2, 20), max_size=6))
def test_only_skipped_words_are_no_longer_asked(seed, skip):
    reviews = make_reviews(6, seed)
    usual, fewer = next_words(reviews), next_words(reviews, skip=tuple(skip))
    asked = torch.tensor([[t.item() not in skip for t in row] for row in usual.targets])
    assert torch.equal(fewer.targets, usual.targets.where(asked, NOT_ASKED))
    assert torch.equal(fewer.inputs[0], usual.inputs[0])


def test_punctuation_is_what_has_no_letter_sign_or_digit():
    vocab = Vocabulary(["好", "，", "a", "...", "3", "?!", "x。"])
    assert punctuation(vocab, 99) == (3, 5, 7)
    assert punctuation(vocab, 5) == (3,)
    assert punctuation(vocab, 3) == ()


# Keyboards


@pytest.fixture(scope="module")
def task(small_task):
    """The small task, of which word 2 is a comma."""
    return replace(small_task, vocab=Vocabulary(["，", *small_task.vocab.words[3:]]))


def test_keyboards_are_of_one_domain_and_share_no_review(task):
    owners = keyboards(task, 5, seed=1)
    assert len(owners) == 5
    assert [owner.name.split()[0] for owner in owners] == ["book"] * 3 + ["hotel"] * 2
    rows = [tuple(row) for own in owners for row in own.train.inputs[0].tolist()]
    every = next_words(task.train, skip=[2])
    assert sorted(rows) == sorted(tuple(row) for row in every.inputs[0].tolist())
    for owner in owners:
        where = [r.domain == owner.name.split()[0] for r in task.test_reviews]
        own = next_words(task.test.subset(np.flatnonzero(where)), skip=[2])
        assert torch.equal(owner.test.inputs[0], own.inputs[0])
        assert not (owner.test.targets == 2).any()
        assert 2 in owner.train.objective.never


def test_keyboards_of_a_domain_share_their_test_and_choose_by_their_own(task):
    first, second, third, *_ = keyboards(task, 5)
    assert first.test is second.test is third.test
    assert len(first.validation) <= 60


def test_a_keyboards_test_is_of_the_first_test_reviews_of_all(task, monkeypatch):
    monkeypatch.setattr(next_word, "_TESTED", 8)
    domains = [review.domain for review in task.test_reviews[:8]]
    for owner in keyboards(task, 5):
        assert len(owner.test) <= domains.count(owner.name.split()[0])


def test_a_seed_deals_keyboards_again(task):
    first, again, other = (keyboards(task, 4, seed)[0].train.inputs[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_fewer_keyboards_than_domains_are_refused(task):
    with pytest.raises(ValueError, match="n_clients: got 1, expected at least one for each of"):
        keyboards(task, 1)


# One table for both ends

TOKENS, TWO = torch.tensor([[4, 7, 2, 9], [3, 5, 0, 0]]), torch.tensor([4, 2])


def test_a_row_is_all_that_a_word_has():
    """Its vector is read and scores it, and its last value is added: without the recurrent layer,
    the logits of a word are those of its row alone."""
    model = TiedLSTM(12, 4, seed=0).eval()
    assert model.embedding.weight.shape == (12, 5)
    before = model(TOKENS, TWO)
    assert before.shape == (2, 4, 12)
    with torch.no_grad():
        model.embedding.weight[11] += 1  # a word that is not read
        model.embedding.weight[10, -1] += 3
    after = model(TOKENS, TWO)
    assert torch.equal(before[..., :10], after[..., :10])
    torch.testing.assert_close(after[..., 10] - before[..., 10], torch.full((2, 4), 3.0))
    assert (after[..., 11] - before[..., 11]).abs().min() > 0


def test_no_step_of_it_sees_what_follows():
    model = TiedLSTM(12, 4, seed=0).eval()
    logits = model(TOKENS, TWO)
    for step in range(1, 5):
        shorter = model(TOKENS[:, :step], TWO.clamp(max=step))
        torch.testing.assert_close(shorter, logits[:, :step], atol=1e-6, rtol=1e-6)


def test_its_weights_are_its_seeds():
    first, again, other = (TiedLSTM(12, 4, seed=s).state_dict() for s in (3, 3, 4))
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert not first["embedding.weight"].equal(other["embedding.weight"])
    assert (first["embedding.weight"][:, -1] == 0).all()  # no word is more likely at first


@pytest.mark.parametrize(
    ("options", "message"),
    [({"vocab_size": 0}, "vocab_size: got 0"), ({"size": 0}, "size: got 0"),
     ({"dropout": 1.0}, "1.0")],
)  # fmt: skip
def test_bad_sizes_of_a_tied_model_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TiedLSTM(**{"vocab_size": 9, **options})


def counted(words, seed, count=12):
    """Words that count upwards among these: the next is always known."""
    first = torch.randint(len(words), (count, 1), generator=torch.Generator().manual_seed(seed))
    lengths = torch.full((count,), 6)
    tokens = torch.tensor(words)[(first + torch.arange(6)) % len(words)]
    return next_words(EncodedReviews(tokens, lengths, lengths * 0))


@pytest.mark.parametrize("own_words", [True, False])
def test_clients_with_words_of_their_own_teach_it_all(own_words):
    plan = Plan(8, local=LocalConfig(epochs=3, batch_size=4, lr=0.05), workers=1)
    data = [counted([*range(2, 9)], 0), counted([*range(9, 16)], 1)]
    model, test = TiedLSTM(16, 12, own_words=own_words, seed=0), counted([*range(2, 9)], 99)
    before = evaluate(model, test)["recall@1"]
    run(model, data, strategies.rowwise() if own_words else strategies.fedavg(), plan)
    assert evaluate(model, test)["recall@1"] > before + 0.4


def sent(model, data, **options):
    """Return the updates of one round, and its bytes."""
    seen = []

    def keep(update, kept, rng):
        seen.append(update)
        return update, kept

    plan = Plan(1, local=options.pop("local", LocalConfig(lr=0.05)), workers=1)
    strategy = options.pop("strategy", strategies.fedavg())
    (record,) = run(model, data, strategy, plan, transforms=[keep], **options)
    assert not record.left_out
    return seen, record.bytes_up


def test_an_update_is_of_the_rows_of_words_read_and_asked_for():
    tokens = torch.tensor([[5, 9, 7, 3], [4, 6, 0, 0]])
    reviews = EncodedReviews(tokens, torch.tensor([4, 2]), torch.tensor([0, 0]))
    data = next_words(reviews, skip=[3])  # the last word, which is not read then, either
    (update,), few = sent(TiedLSTM(40, 4, seed=0), [data])
    assert update.touched_rows["embedding.weight"].tolist() == [0, 4, 5, 6, 7, 9]
    assert update.delta["embedding.weight"].shape == (6, 5)
    assert update.delta["embedding.weight"].any(1).all()  # each is scored, so each moves
    (update,), many = sent(TiedLSTM(40, 4, own_words=False, seed=0), [data])
    assert update.touched_rows == {}
    assert update.delta["embedding.weight"].shape == (40, 5)
    assert few < many


class Whole(Mean):
    """A mean that wants every row."""

    dense = True


@pytest.mark.parametrize(
    "options",
    [
        {"codec": wire.dense()},
        {"local": LocalConfig(weight_decay=0.1)},
        {"strategy": Strategy(Whole())},
    ],
    ids=["a codec", "weight decay", "a strategy"],
)
def test_where_every_row_moves_all_words_are_scored(options):
    model, data = TiedLSTM(40, 4, seed=0), [counted([*range(2, 9)], 0)]
    (update,), _ = sent(model, data, **options)
    assert update.delta["embedding.weight"].shape == (40, 5)
    assert update.delta["embedding.weight"][20:].any(1).all()
