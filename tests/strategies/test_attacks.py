"""Hostile clients: what they send, and that nobody else does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, rounds
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import fedavg
from fedlab_helpers.strategies.attacks import Hostile, choose, flip_labels
from fedlab_helpers.tasks.objectives import NUMBERS
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

UPDATE = Update(
    3,
    {"w": torch.tensor([1.0, -2.0]), "n": torch.tensor(4)},
    {},
    5,
    2,
    (0.7,),
    {"x": torch.ones(1)},
)


def sent(attack: str, strength: float = 2.0, client: int = 3, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    update, kept = Hostile([3], attack, strength)(replace(UPDATE, client=client), {}, rng)
    assert kept == {}
    assert int(update.delta["n"]) == 4
    return update.delta["w"].tolist()


def test_each_attack_by_hand():
    assert sent("sign") == [-2, 4]
    assert sent("scale") == [2, -4]
    assert all(np.isnan(sent("nan")))
    assert sent("noise") == sent("noise") != sent("noise", seed=1)


def test_noise_has_its_strength():
    update = replace(UPDATE, delta={"w": torch.zeros(10_000)})
    lie, _ = Hostile([3], "noise", 0.5)(update, {}, torch.Generator().manual_seed(0))
    assert 0.48 < lie.delta["w"].std().item() < 0.52


@pytest.mark.parametrize("attack", ["sign", "scale", "noise", "nan"])
def test_others_are_honest(attack):
    assert sent(attack, client=2) == [1, -2]
    assert UPDATE.delta["w"].tolist() == [1, -2]


def test_labels_are_flipped_at_the_hostile_only(reviews):
    clients = [reviews(6, seed) for seed in range(3)]
    flipped = flip_labels(clients, {1})
    assert [data is clients[i] for i, data in enumerate(flipped)] == [True, False, True]
    assert (flipped[1].labels + clients[1].labels).tolist() == [1] * 6
    assert torch.equal(flipped[1].tokens, clients[1].tokens)


def test_who_is_hostile_is_drawn_at_the_share_asked_for():
    drawn = [choose(20, 0.25, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(who)) == 5 and set(who) <= set(range(20)) for who in drawn)
    assert list(drawn[0]) == sorted(drawn[0])
    assert choose(20, 0, np.random.default_rng(0)) == ()
    assert len(choose(20, 1, np.random.default_rng(0))) == 20


def test_who_sends_nan_is_left_out(clients, small_model):
    plan = Plan(1, local=LocalConfig(1, 4))
    (record,) = rounds(small_model(), clients, fedavg(), plan, transforms=[Hostile([0, 2], "nan")])
    assert record.left_out.keys() == {0, 2}


def three_classes(*labels: int) -> EncodedReviews:
    ones = torch.ones(len(labels), 1, dtype=torch.int64)
    return EncodedReviews(ones, ones[:, 0], torch.tensor(labels))


def test_of_three_classes_the_first_becomes_the_last():
    """The class that a client does not hold counts, too."""
    clients = [three_classes(0, 1, 1), three_classes(2, 0)]
    assert flip_labels(clients, {0})[0].labels.tolist() == [2, 1, 1]
    assert flip_labels(clients[:1], {0})[0].labels.tolist() == [1, 0, 0]
    # Whom nothing is asked of, nothing is turned; probabilities are turned round.
    assert flip_labels([three_classes(-100, 1)], {0})[0].labels.tolist() == [-100, 0]
    soft = clients[1].with_targets(torch.tensor([[0.7, 0.2, 0.1], [0, 1, 0]]))
    expected = torch.tensor([[0.1, 0.2, 0.7], [0, 1, 0]])
    assert torch.equal(flip_labels([soft], {0})[0].labels, expected)


def test_labels_that_are_no_classes_cannot_be_flipped():
    numbers = Examples((torch.zeros(2, 3),), torch.ones(2), NUMBERS)
    with pytest.raises(ValueError, match="flip_labels: needs a class for each example, got"):
        flip_labels([numbers], {0})
