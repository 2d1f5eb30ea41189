"""Next words: what is asked of a review, and a model that sees nothing of what follows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import make_reviews

from fedlab_helpers import LocalConfig, Plan, evaluate, run, strategies
from fedlab_helpers.core import rows
from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.tasks.next_word import NEXT_WORD, NextWordLSTM, next_words
from fedlab_helpers.tasks.objectives import NextToken
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

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
