"""What our texts say of SecAgg+ in the installed Flower, on tiny vectors."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

flwr = pytest.importorskip("flwr", reason="needs Flower: pip install 'fedlab-helpers[network]'")

PATH = Path(__file__).parents[1] / "benchmarks" / "flower_secagg.py"
CHANGED = (
    f"Flower {flwr.__version__} does otherwise than 1.42.0: correct what {PATH.name}, the "
    "notebooks and the book say of its SecAgg+"
)
SEED = bytes(range(32))  # the XOR of its eight words is 0


@pytest.fixture(scope="module")
def command():
    """Return the module of the command."""
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "other",
    [bytes(32), SEED[4:] + SEED[:4], SEED[:24] + bytes([4] * 4) + bytes(4)],
    ids=["zeros", "words in another order", "two other words"],
)
def test_two_seeds_with_one_fold_have_one_mask_in_flower_and_two_in_ours(command, other):
    assert command.fold(other) == command.fold(SEED) == bytes(4)
    assert np.array_equal(command.flower_mask(SEED, 9), command.flower_mask(other, 9)), CHANGED
    assert not np.array_equal(command.our_mask(SEED, 9), command.our_mask(other, 9))


def test_two_seeds_with_two_folds_have_two_masks(command):
    other = bytes([128]) + SEED[1:]
    assert not np.array_equal(command.flower_mask(SEED, 9), command.flower_mask(other, 9))


def test_of_a_seed_of_256_bits_flower_uses_32_and_ours_all(command):
    assert command.seed_bits(command.flower_mask) == 32, CHANGED
    assert command.seed_bits(command.our_mask) == 256


def test_of_a_pairs_seed_flower_uses_28_bits(command):
    assert command.pair_bits() == 28, CHANGED


def test_both_sums_are_exact_and_flower_sends_8_bytes_a_value(command):
    """With 1,000 values, 128 bytes of header for each of two arrays, and a weight."""
    vectors = command.draw(3, 1000)
    wrong, seconds, sent = command.flower_sum(vectors)
    assert (wrong, len(seconds), sent) == (0, 3, 8 * 1001 + 2 * 128), CHANGED
    for bits in (16, 32):
        wrong, seconds, sent = command.our_sum(vectors, bits)
        assert (wrong, len(seconds), sent) == (0, 3, bits // 8 * 1001)
