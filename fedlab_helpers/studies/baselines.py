"""How far centralised models get on the same reviews, what each costs, and who hears word order."""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor, nn

from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.model import SeededDropout
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, evaluate, predict, train
from fedlab_helpers.studies.study import Row, Settings, Study, best, grid, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.order_pairs import order_pairs, ordered
from fedlab_helpers.tasks.reviews.words import UNKNOWN, tokenize_all

EPOCHS = 6
READ = 64  # words of a review that a network reads
# The learning rates, chosen by `best_rates` from the table of `baselines_rates`.
RATES = {"bag": 5e-3, "rnn": 2e-3, "rnn_mean": 5e-3, "gru": 5e-3, "lstm": 5e-3}
TRIED = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)


class BagOfVectors(nn.Module):
    """The mean of a review's word vectors and one linear layer: word order is lost."""

    def __init__(self, vocab_size: int, size: int = 64, *, dropout: float, seed: int):
        super().__init__()
        self.dropout = SeededDropout(dropout)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embedding = nn.Embedding(vocab_size, size, padding_idx=0)
            self.head = nn.Linear(size, 2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (B, 2) of right-padded word ids (B, T); padding's vector is zero."""
        vectors = self.dropout(self.embedding(tokens))  # (B, T, E)
        return self.head(self.dropout(vectors.sum(1) / lengths[:, None]))


def measure_rate(settings: Settings) -> list[Row]:
    """Return the best epoch's validation accuracy; the test reviews are not looked at."""
    name, seed = settings["model"], settings["seed"]
    _, accuracy, epoch = trained(_new(name, seed), settings["lr"], seed)
    return [{"merit": accuracy, "epochs": epoch}]


def best_rates(table: pd.DataFrame) -> dict[str, float]:
    """Return each model's learning rate that did best in the table of `baselines_rates`."""
    return {model: lr for (model,), (lr,) in best(table, ["model"], ["lr"]).items()}


def measure_baseline(settings: Settings) -> list[Row]:
    """Return accuracy and loss of one centralised model; what is chosen is chosen on validation.

    "shuffled" is the accuracy on the test reviews with the words of each in another order,
    "overclaim" the mean confidence less the accuracy, "cost" the CPU time of a training step as a
    multiple of the bag's. "pairs_last" and "pairs_first" are the shares of the order pairs of each
    direction whose positive sentence the model finds the more positive one.
    """
    name, seed = settings["model"], settings["seed"]
    epochs, cost = 0, float("nan")
    if name == "majority":
        validation, numbers, score = _majority()
    elif name == "tfidf":
        validation, numbers, score = _tfidf()
    else:
        model, validation, epochs = trained(_new(name, seed), RATES[name], seed)
        score = partial(_log_odds, model)
        numbers, cost = sum(p.numel() for p in model.parameters()), _cost(name, seed)
    row = {"validation_accuracy": validation, "epochs": epochs, "parameters": numbers}
    return [{**_tested(score), **row, "cost": round(cost, 2), **_pairs(score)}]


Words = Sequence[Sequence[str]]  # of each text
Score = Callable[[Words], np.ndarray]  # -> its log-odds of positive, (N,)


def _log_odds(model: nn.Module, texts: Words) -> np.ndarray:
    ids = [torch.tensor(task().vocab.encode(text[:READ]) or [UNKNOWN]) for text in texts]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    logits = predict(model, EncodedReviews(tokens, lengths, torch.zeros_like(lengths)))
    return (logits[:, 1] - logits[:, 0]).double().numpy()


def _tested(score: Score) -> Row:
    words, labels = _words("test"), task().test.labels.numpy()
    rng = numpy_rng(0, "shuffle")  # what lies beyond the words read stays there
    mixed = [[*rng.permutation(text[:READ]), *rng.permutation(text[READ:])] for text in words]
    positive = expit(score(words))
    right = (positive > 0.5) == labels
    return {
        "loss": log_loss(labels, positive),
        "accuracy": float(right.mean()),
        "shuffled": float(((score(mixed) > 0) == labels).mean()),
        "overclaim": float(np.maximum(positive, 1 - positive).mean() - right.mean()),
    }


@cache
def _words(part: str) -> Words:
    return tokenize_all([review.text for review in getattr(task(), f"{part}_reviews")])


def _pairs(score: Score) -> Row:
    pairs = order_pairs()
    sides = ([getattr(pair, side) for pair in pairs] for side in ("positive", "negative"))
    right = ordered(*(score(tokenize_all(side)) for side in sides))
    way = np.array([pair.direction for pair in pairs])
    return {f"pairs_{w}": round(float(right[way == w].mean()), 4) for w in ("last", "first")}


def trained(model: nn.Module, lr: float, seed: int) -> tuple[nn.Module, float, int]:
    """Train in one place for some epochs and go back to the one that did best on the validation
    reviews. Return the model, that accuracy, and which epoch it was."""
    data = task()
    highest, chosen, weights = -1.0, 0, {}
    for epoch in range(1, EPOCHS + 1):
        train(model, data.train, LocalConfig(lr=lr), seed=child_seed(seed, "epoch", epoch))
        accuracy = evaluate(model, data.validation).accuracy
        if accuracy > highest:
            highest, chosen, weights = accuracy, epoch, of_model(model)
    model.load_state_dict(weights)
    return model, highest, chosen


def _new(name: str, seed: int) -> nn.Module:
    if name == "bag":
        return BagOfVectors(len(task().vocab), dropout=0.3, seed=seed)
    cell, _, pooling = name.partition("_")
    how = {"cell": cell, "pooling": pooling or "last", "dropout": 0.3}
    return SentimentLSTM(len(task().vocab), **how, seed=seed)


def _cost(name: str, seed: int, steps: int = 40, turns: int = 5) -> float:
    """Return how many times the CPU time of a bag's steps this model's take: both train on the
    same batches, turn by turn, so that both meet the same machine; the median of the turns."""
    ratios, config = [], LocalConfig()
    for _ in range(turns):
        spent = []
        for model in (_new(name, seed), _new("bag", seed)):
            began = time.process_time()
            train(model, task().train, config, seed=seed, max_steps=steps)
            spent.append(time.process_time() - began)
        ratios.append(spent[0] / spent[1])
    return float(np.median(ratios))


def _majority() -> tuple[float, int, Score]:
    """Always answer with the training reviews' class shares."""
    share = float(task().train.labels.double().mean())
    same = float(((share > 0.5) == task().validation.labels.bool()).double().mean())
    return same, 1, lambda texts: np.full(len(texts), logit(share))


def _tfidf() -> tuple[float, int, Score]:
    """Words and pairs of words, weighted by TF-IDF, with logistic regression."""
    tfidf = TfidfVectorizer(analyzer=_words_and_pairs, min_df=2, sublinear_tf=True)
    features, checked = tfidf.fit_transform(_words("train")), tfidf.transform(_words("validation"))
    data, fitted = task(), []
    for strength in (1.0, 3.0, 10.0, 30.0, 100.0):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, data.train.labels)
        fitted.append((model.score(checked, data.validation.labels), model))
    validation, model = max(fitted, key=lambda pair: pair[0])
    score = lambda texts: model.decision_function(tfidf.transform(texts))  # noqa: E731
    return validation, model.coef_.size + 1, score


def _words_and_pairs(tokens: list[str]) -> list[str]:
    return tokens + [" ".join(pair) for pair in pairwise(tokens)]


BASELINES_RATES = Study(
    "baselines_rates", grid(model=list(RATES), lr=TRIED, seed=(100, 101)), measure_rate
)
BASELINES = Study(
    "baselines",
    (
        *grid(model=["majority", "tfidf"], seed=[0]),  # nothing random in them
        *grid(model=list(RATES), seed=range(5)),
    ),
    measure_baseline,
)
