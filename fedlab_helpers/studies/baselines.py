"""How far centralised models get on the same reviews: the lines that anchor all others."""

import time
from itertools import pairwise

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, Metrics, evaluate, train
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import tokenize_all


def measure_baseline(settings: Settings) -> list[Row]:
    """Return accuracy and loss of one centralised model; what is chosen is chosen on validation."""
    began = time.perf_counter()
    plain = {"majority": _majority, "tfidf": _tfidf}
    if settings["model"] in plain:
        chosen, validation, epochs = *plain[settings["model"]](), 0
    else:
        chosen, validation, epochs = _recurrent(settings["model"], settings["seed"])
    return [
        {
            **chosen,
            "validation_accuracy": validation.accuracy,
            "epochs": epochs,
            "seconds": round(time.perf_counter() - began, 1),
        }
    ]


def _majority() -> tuple[Metrics, Metrics]:
    """Always answer with the training reviews' class shares."""
    data = task()
    shares = np.bincount(data.train.labels) / len(data.train)
    return tuple(
        _scored(np.tile(shares, (len(part), 1)), part.labels)
        for part in (data.test, data.validation)
    )


def _tfidf() -> tuple[Metrics, Metrics]:
    """Words and pairs of words, weighted by TF-IDF, with logistic regression."""
    data = task()
    train_words, validation_words, test_words = (
        tokenize_all([review.text for review in part])
        for part in (data.train_reviews, data.validation_reviews, data.test_reviews)
    )
    tfidf = TfidfVectorizer(analyzer=_words_and_pairs, min_df=2, sublinear_tf=True)
    features = tfidf.fit_transform(train_words)
    fitted = []
    for strength in (1.0, 3.0, 10.0):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, data.train.labels)
        odds = model.predict_proba(tfidf.transform(validation_words))
        fitted.append((_scored(odds, data.validation.labels), model))
    validation, model = max(fitted, key=lambda pair: pair[0].accuracy)
    odds = model.predict_proba(tfidf.transform(test_words))
    return _scored(odds, data.test.labels), validation


def _words_and_pairs(tokens: list[str]) -> list[str]:
    return tokens + [" ".join(pair) for pair in pairwise(tokens)]


def _scored(probabilities: np.ndarray, labels) -> Metrics:
    labels = np.asarray(labels)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    loss = float(log_loss(labels, probabilities))
    return Metrics(loss=loss, accuracy=accuracy, examples=len(labels))


def _recurrent(cell: str, seed: int, epochs: int = 6) -> tuple[Metrics, Metrics, int]:
    """Train for some epochs and keep the one that did best on the validation reviews."""
    data = task()
    model = SentimentLSTM(len(data.vocab), cell=cell, dropout=0.3, seed=seed)
    best, chosen, weights = Metrics(loss=float("inf"), accuracy=-1.0), 0, {}
    optimise = LocalConfig(epochs=1, lr=5e-3 if cell != "rnn" else 1e-3)
    for epoch in range(1, epochs + 1):
        train(model, data.train, optimise, seed=child_seed(seed, "epoch", epoch))
        validation = evaluate(model, data.validation)
        if validation.accuracy > best.accuracy:
            best, chosen, weights = validation, epoch, of_model(model)
    model.load_state_dict(weights)
    return evaluate(model, data.test), best, chosen


BASELINES = Study(
    "baselines",
    (
        *grid(model=["majority", "tfidf"], seed=[0]),  # nothing random in them
        *grid(model=["lstm", "gru", "rnn"], seed=range(3)),
    ),
    measure_baseline,
)
