"""What is learnt: what the files hold, and the model. Change both; keep the names.

`train.py`, `test_task.py` and a network (`--task task:TASK`) know no more of it than this.
"""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from fedlab_helpers import Examples, Vocabulary, encode_reviews, load_reviews
from fedlab_helpers.tasks.reviews.characters import appearance

DATA = Path(__file__).parent / "data"
READ = 64  # words of a text


def lines(name: str) -> list[str]:
    """Return the lines of a file of the data."""
    return [line for line in (DATA / name).read_text("utf-8").split("\n") if line]


CLASSES = lines("classes.txt")  # what labels 0, 1, … are called
WORDS = Vocabulary(lines("words.txt"), classes=CLASSES, max_len=READ)


def examples(path: str | Path) -> Examples:
    """Return what a file holds: here texts with a label each, columns "text" and "label".

    For numbers, series or the next token return an `Examples` of your own: its inputs are what the
    model is called with, its targets what is asked, its objective says how answers are judged.
    """
    return encode_reviews(load_reviews(path, labels=CLASSES, clean=False), WORDS)


def looks(path: str | Path) -> list:
    """Return by what an example of a file would be known in another: here how its text looks."""
    reviews = load_reviews(path, labels=CLASSES, clean=False)
    return [appearance(review.text) for review in reviews]


class Model(nn.Module):
    """A word's vector, a GRU over the words, and a linear layer over the mean of what it says."""

    token_parameter = "embedding.weight"  # of it, clients send only the rows of their own words

    def __init__(self, words: int, classes: int, size: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(words, size, padding_idx=0)
        self.recurrent = nn.GRU(size, size, batch_first=True)
        self.head = nn.Linear(size, classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits, (B, C), of word ids (B, T) and how many there are, (B,)."""
        outputs, _ = self.recurrent(self.embedding(tokens))  # (B, T, H)
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        inside = (steps < lengths[:, None])[..., None]  # padding does not count
        return self.head((outputs * inside).sum(1) / lengths[:, None])


def new_model() -> Model:
    """Return the model with its first weights, the same wherever it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Model(len(WORDS), len(CLASSES))


TASK = SimpleNamespace(new_model=new_model, examples=examples)
