"""Fine-tuning, mixing and corrected priors: by hand, and their ends."""

import math
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core import state
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.training import LocalConfig, Stopped, evaluate, train
from fedlab_helpers.personal.fine_tuning import correct_priors, fine_tune, mix, own_weights, within
from fedlab_helpers.strategies import feddyn, scaffold
from fedlab_helpers.strategies.personal import OWN_SHARE, Ditto
from fedlab_helpers.tasks.next_word import TiedLSTM, next_words
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

LOCAL = LocalConfig(1, 4, 0.02)


@pytest.fixture
def start(small_model):
    return state.of_model(small_model(seed=3))


def tuned(small_model, start, data, epochs=2, **options):
    model = small_model(dropout=0.2)
    return fine_tune(model, start, data, LOCAL, epochs, **options)


def test_no_epoch_is_the_global_model(small_model, start, clients, bits):
    result = tuned(small_model, start, clients[0], 0, validation=clients[1])
    assert bits(result.weights) == bits(start)
    assert result.epochs == 0


def test_it_is_local_training_epoch_by_epoch(small_model, start, clients, bits):
    model = small_model(dropout=0.2)
    model.load_state_dict(start)
    for epoch in (1, 2):
        train(model, clients[0], LOCAL, seed=child_seed(9, "epoch", epoch))
    result = tuned(small_model, start, clients[0], seed=9)
    assert bits(result.weights) == bits(state.of_model(model))
    assert result.epochs == 2


def test_an_infinite_pull_is_the_global_model_and_a_finite_one_lies_between(
    small_model, start, clients, bits
):
    ends = [tuned(small_model, start, clients[0], lam=lam).weights for lam in (0, 10, math.inf)]
    free, pulled, held = (state.norm(state.subtract(end, start)) for end in ends)
    assert free > pulled > held == 0


def test_only_what_is_named_is_trained_and_what_a_reader_froze_stays_frozen(
    small_model, start, clients
):
    model = small_model()
    model.embedding.weight.requires_grad_(False)
    free = [name for name in start if not name.startswith("embedding")]
    for trains, names in ((within("head"), free[-2:]), (within(), free)):
        result = fine_tune(model, start, clients[0], LOCAL, 1, trains=trains)
        assert [n for n in start if not torch.equal(result.weights[n], start[n])] == names
        assert [n for n, p in model.named_parameters() if p.requires_grad] == free
    with pytest.raises(ValueError, match="trains: got 'no parameter', expected at least one of"):
        fine_tune(model, start, clients[0], LOCAL, 1, trains=within("embedding"))


def test_the_epoch_that_is_best_on_validation_is_kept(small_model, start, clients):
    """Labels turned round in validation: every epoch makes that worse, so the start is kept."""
    opposed = clients[2].with_targets(1 - clients[2].labels)
    assert tuned(small_model, start, clients[2], 4, validation=opposed).epochs == 0
    result = tuned(small_model, start, clients[2], 4, validation=clients[2])
    assert result.epochs > 0
    model = small_model()
    losses = []
    for epochs in range(5):
        model.load_state_dict(tuned(small_model, start, clients[2], epochs).weights)
        losses.append(evaluate(model, clients[2]).loss)
    assert result.epochs == losses.index(min(losses))


def test_bad_numbers_are_refused_and_it_can_be_stopped(small_model, start, clients):
    for name, value in (("epochs", -1), ("lam", -1.0), ("lam", math.nan)):
        with pytest.raises(ValueError, match=f"{name}: got"):
            tuned(small_model, start, clients[0], **{name: value})
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        tuned(small_model, start, clients[0], stop=stop)


# Mixing


LOGITS = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]])


@given(st.floats(0, 1))
def test_a_mix_is_a_probability_between_the_two_which_are_its_ends(share):
    mixed, ends = mix(*LOGITS, share), [logits.softmax(1) for logits in LOGITS]
    assert torch.allclose(mixed.sum(1), torch.ones(2))
    assert (mixed >= torch.minimum(*ends) - 1e-6).all()
    assert (mixed <= torch.maximum(*ends) + 1e-6).all()
    assert torch.allclose(torch.stack([mix(*LOGITS, end) for end in (0, 1)]), torch.stack(ends))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share: got"):
        mix(*LOGITS, share)


# Corrected priors


def test_corrected_priors_by_hand():
    """Own labels 1, 1, 0 and one more of each: 3/5 and 2/5; all together: 1/2 each."""
    own, everybody = torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0, 1])
    moved = correct_priors(torch.zeros(1, 2), own, everybody)
    assert torch.allclose(moved, torch.tensor([[math.log(4 / 5), math.log(6 / 5)]]))
    assert torch.allclose(correct_priors(LOGITS[0], everybody, everybody), LOGITS[0])
    with pytest.raises(ValueError, match=r"got \(4,\), expected .* classes are int64"):
        correct_priors(torch.zeros(1, 2), own, everybody.float())  # no rows of probabilities


def test_the_correction_is_bayes_rule():
    """P(1|x) of a shared model at even odds, for a client that meets 1 nine times in ten: the
    odds are multiplied by nine."""
    own = torch.tensor([1] * 899 + [0] * 99)  # with one more of each, 900 to 100
    everybody = torch.tensor([0, 1] * 500)
    shared = torch.tensor([[0.6, 0.4]]).log()
    odds = correct_priors(shared, own, everybody).softmax(1)
    assert odds[0, 1] / odds[0, 0] == pytest.approx(9 * 0.4 / 0.6, rel=1e-5)


# What a client answers with


def test_own_weights_by_hand(clients, small_model):
    shared = state.of_model(small_model())
    data = clients[0]
    words = torch.cat([torch.zeros(1, dtype=torch.int64), data.tokens.flatten()]).unique()
    assert own_weights(shared, {}, data).keys() == shared.keys()
    head = {"head.bias": torch.tensor([5.0, 6.0])}
    assert own_weights(shared, {"private": head}, data)["head.bias"].tolist() == [5, 6]
    table = torch.ones(len(words), 6)
    mixed = own_weights(
        shared, {"strategy": {"embedding.weight": table, OWN_SHARE: torch.tensor(0.25)}}, data
    )["embedding.weight"]
    expected = shared["embedding.weight"].clone()
    expected[words] = 0.25 + 0.75 * expected[words]
    assert torch.allclose(mixed, expected)


def test_what_is_no_weight_is_not_mixed(clients, small_model):
    """A mask's infinities, a key that float32 cannot hold, a counter of the client's own."""
    held = {"mask": torch.tensor([0.0, -torch.inf]), "key": torch.tensor(2**24 + 1)}
    shared = state.of_model(small_model()) | held | {"count": torch.tensor(8)}
    own = {**held, "count": torch.tensor(5), OWN_SHARE: torch.tensor(0.25)}
    for kept, count in (({}, 8), ({"strategy": own}, 5)):
        mixed = own_weights(shared, kept, clients[0])
        assert {n: mixed[n].tolist() for n in held} == {n: t.tolist() for n, t in held.items()}
        assert int(mixed["count"]) == count


def test_the_models_own_state_can_be_the_start(clients, small_model, bits):
    """It moves while the model trains: what comes back is of the epoch that was best."""
    model = small_model()
    before = bits(state.of_model(model))
    wrong = clients[1].with_targets(1 - clients[1].targets)  # every step is a step away
    config = LocalConfig(1, 4, 0.5, "sgd")
    twice = clients[1].with_targets(clients[1].targets)
    tuned = fine_tune(model, model.state_dict(), wrong, config, 2, validation=twice)
    assert tuned.epochs == 0
    assert bits(tuned.weights) == before
    assert bits(fine_tune(model, model.state_dict(), wrong, config, 0).weights) != before


@pytest.mark.parametrize("strategy", [feddyn(0.1), scaffold()])
def test_a_memory_that_is_no_model_is_not_taken_for_one(clients, small_model, strategy):
    model, states = small_model(), {}
    run(model, clients, strategy, Plan(1, local=LOCAL), client_states=states)
    with pytest.raises(ValueError, match=r"kept: got \['embedding.*, expected the memory"):
        own_weights(state.of_model(model), states[0], clients[0])
    with pytest.raises(ValueError, match=r"kept: got \['tail'\], expected some of"):
        own_weights(state.of_model(model), {"private": {"tail": torch.ones(1)}}, clients[0])


def test_rows_that_score_words_are_put_where_they_belong(bits):
    """Ditto's own models, of rows that are read and asked for; and rows of other words are not
    taken for these."""
    tokens = torch.tensor([[5, 9, 7, 3]])
    data = next_words(EncodedReviews(tokens, torch.tensor([4]), torch.tensor([0])))
    model, states = TiedLSTM(12, 4, seed=0), {}
    run(model, [data], Ditto(lam=0.0), Plan(1, local=LOCAL), client_states=states)
    shared = state.of_model(model)
    own = own_weights(shared, states[0], data, scored=True)
    table, kept = own["embedding.weight"], states[0]["strategy"]["embedding.weight"]
    assert torch.equal(table[[0, 3, 5, 7, 9]], kept)
    assert torch.equal(table[[1, 2, 4, 6]], shared["embedding.weight"][[1, 2, 4, 6]])
    with pytest.raises(ValueError, match=r"kept: embedding.weight: got \(5, 5\), expected whole"):
        own_weights(shared, states[0], data)


def test_classes_are_corrected_and_not_what_is_asked_at_each_step():
    asked = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"logits: got \(2, 3, 5\), expected \(N, C\)"):
        correct_priors(torch.zeros(2, 3, 5), asked, asked)
