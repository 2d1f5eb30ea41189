"""Secret numbers: uniform and normal, others each time, and not a function of 32 bits."""

import numpy as np
import pytest
import torch
from scipy import stats

from fedlab_helpers.core.compute import secret_rng, torch_rng
from fedlab_helpers.privacy import randomness
from fedlab_helpers.privacy.randomness import normal, uniform


def test_secret_numbers_have_their_distribution():
    """Kolmogorov and Smirnov's test: by chance one in a million runs fails."""
    drawn = uniform(100_000, None)
    assert drawn.dtype == torch.float64
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-6
    bells = normal((333, 301), None)
    assert bells.shape == (333, 301)
    assert stats.kstest(bells.flatten().numpy(), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(bells[:, :150].flatten(), bells[:, 151:].flatten())[0, 1]) < 0.03


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (5,), (2, 3)])
def test_any_shape(shape):
    assert normal(shape, None).shape == shape
    assert normal(shape, None).isfinite().all()


def test_they_are_others_each_time_and_the_generators_own_where_one_is_given():
    assert not torch.equal(normal((9,), None), normal((9,), None))
    first, again = (normal((9,), torch_rng(3, "noise")) for _ in range(2))
    assert torch.equal(first, again)
    wanted = torch.randn(9, generator=torch_rng(3, "noise"), dtype=torch.float64)
    assert torch.equal(first, wanted)
    wanted = torch.rand(3, generator=torch_rng(1), dtype=torch.float64)
    assert torch.equal(uniform(3, torch_rng(1)), wanted)


def test_they_are_the_keystream_of_the_key(monkeypatch):
    """RFC 8439, appendix A.1, test vector 1: the keystream of a key of zeros."""
    monkeypatch.setattr(randomness.secrets, "token_bytes", bytes)
    words = np.frombuffer(bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28"), "<u8")
    assert uniform(2, None).tolist() == pytest.approx((words / 2**64).tolist(), abs=1e-15)


def test_a_secret_generator_is_no_function_of_a_seed():
    """Its words are those of the system, not what a seed of 32 bits makes of them."""
    first, again = secret_rng(), secret_rng()
    words = first.get_state().numpy()[24 : 24 + 8 * 624].view("<u8")
    assert words.max() < 2**32
    assert len(set(words.tolist())) > 620
    assert not torch.equal(torch.rand(9, generator=first), torch.rand(9, generator=again))
    seeded = torch.Generator().manual_seed(int(words[0])).get_state().numpy()
    assert (seeded[24 : 24 + 8 * 624].view("<u8") == words).sum() < 5
    assert 0.4 < float(torch.rand(10_000, generator=first).mean()) < 0.6
