"""What is seen under each protection, by hand; and sums that a server has tampered with."""

import numpy as np
import pytest
import torch

from fedlab_helpers.core.compute import numpy_rng, torch_rng
from fedlab_helpers.core.state import flatten, norm
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.secure import FixedPoint, secure_sum
from fedlab_helpers.privacy.secure.rounds import shaped
from fedlab_helpers.studies import protections
from fedlab_helpers.studies.protections import PROTECTIONS, encoded

UPDATES = [
    {"a": torch.randn(30, 4, generator=torch_rng(k)), "b": torch.full((5,), float(k % 3))}
    for k in range(300)
]
LARGEST = 8.0


def seen(name, updates=UPDATES, seed=0):
    return flatten(PROTECTIONS[name].of(updates, LARGEST, seed))


def mean(count):
    return torch.stack([flatten(update) for update in UPDATES[:count]]).mean(0)


def test_without_protection_the_update_itself_is_seen():
    assert torch.equal(seen("nothing"), flatten(UPDATES[0]))


@pytest.mark.parametrize("count", [10, 100])
def test_of_many_the_mean_is_seen_and_by_a_sum_the_same_up_to_its_steps(count):
    torch.testing.assert_close(seen(f"mean of {count}"), mean(count), atol=1e-6, rtol=0)
    step = FixedPoint(16, count, LARGEST, 1).step
    off = (seen(f"secure sum of {count}") - mean(count)).abs()
    assert 0 < float(off.max()) < step


def test_a_sum_without_masks_is_bit_for_bit_the_one_that_is_played():
    vectors = encoded(FixedPoint(16, 10, LARGEST, 1), UPDATES[:10], seed=3)
    plain = np.sum(list(vectors.values()), axis=0, dtype=np.uint16)
    assert np.array_equal(secure_sum(vectors, 6, context=protections.MODEL), plain)


@pytest.mark.parametrize("name", ["noise at the server", "noise at the client"])
def test_noise_is_as_strong_as_it_has_to_be_and_drawn_from_the_seed(name):
    at_server, at_client = protections.multipliers()
    run = (protections.ROUNDS, protections.CLIENTS, protections.COHORT)
    assert 7.9 < Mechanism(at_server, *run).epsilon() <= 8
    assert 7.9 < Mechanism(at_client, 1, 1, 1, "fixed").epsilon() <= 8
    std = 2 * at_server / 300 if name == "noise at the server" else 2 * at_client
    zeros = [{"a": torch.zeros(200, 100)}] * 300
    assert float(seen(name, zeros).std()) == pytest.approx(std, rel=0.02)
    assert torch.equal(seen(name), seen(name))
    assert not torch.equal(seen(name), seen(name, seed=1))


def test_what_gets_noise_is_clipped_before():
    long = [{"a": torch.full((100, 100), 1e3)}] * 300
    for name in ("noise at the server", "noise at the client"):
        zeros = [{"a": torch.zeros(100, 100)}] * 300
        assert float((seen(name, long) - seen(name, zeros)).norm()) == pytest.approx(2, rel=1e-3)


def test_values_find_their_tensors():
    again = shaped(flatten(UPDATES[4]).numpy(), UPDATES[4])
    assert norm({name: again[name] - UPDATES[4][name] for name in again}) == 0


def test_with_masks_bound_to_the_model_a_cheating_server_gets_garbage():
    coding = FixedPoint(16, 10, LARGEST, 1)
    silent = {name: 0 * tensor for name, tensor in UPDATES[0].items()}
    vectors = encoded(coding, [UPDATES[0], *[silent] * 9], seed=0)
    contexts = {n: b"shut" if n else b"model" for n in vectors}
    one = secure_sum(vectors, 6)
    assert np.array_equal(one[:-1], vectors[0][:-1])  # the target's, bit for bit
    bound = secure_sum(vectors, 6, context=contexts)
    assert (bound == one).mean() < 0.05
    with pytest.raises(ValueError, match="total: got"):
        coding.decode(bound)


def test_encoding_is_drawn_from_the_seed():
    coding = FixedPoint(16, 3, LARGEST, 1)
    one, again, other = (encoded(coding, UPDATES[:3], seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[n], again[n]) for n in one)
    assert not np.array_equal(one[0], other[0])
    by_hand = coding.encode(flatten(UPDATES[1]).numpy(), 1, numpy_rng(0, "coding", 1))
    assert np.array_equal(one[1], by_hand)
