"""Small readers and sentences for the tests of what a gradient tells."""

import torch
from hypothesis import strategies as st

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.reviews.model import POOLINGS, SentimentLSTM

WORDS = 60

KINDS = [(cell, pooling) for cell in sorted(CELLS) for pooling in POOLINGS]


def reader(cell="lstm", pooling="last", *, gain=1.5, classes=2, seed=0, **options) -> SentimentLSTM:
    """Return a small classifier, its recurrent weights scaled up by `gain` so that a gradient does
    not vanish within a few words."""
    sizes = (WORDS, 16, 16, classes)
    model = SentimentLSTM(*sizes, cell=cell, pooling=pooling, seed=seed, **options)
    with torch.no_grad():
        for weight in model.recurrent.parameters():
            weight.mul_(gain)
    return model


def examples(*pairs) -> Examples:
    """Return examples of (words, class)."""
    rows = [torch.tensor(list(words)) for words, _ in pairs]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = torch.tensor([label for _, label in pairs])
    return Examples((padded, torch.tensor([len(row) for row in rows])), labels, padded=True)


def told(found) -> list:
    """Return sentences as sorted (words, class)."""
    return sorted((list(sentence.tokens), sentence.label) for sentence in found)


def sentences(longest=12, words=range(1, WORDS), **options):
    """Draw lists of word ids, which may repeat."""
    return st.lists(st.sampled_from(words), min_size=1, max_size=longest, **options)


readers = st.builds(
    reader,
    st.sampled_from(sorted(CELLS)),
    st.sampled_from(POOLINGS),
    gain=st.sampled_from((1.0, 1.5, 2.0, 3.0)),
    seed=st.integers(0, 99),
)
