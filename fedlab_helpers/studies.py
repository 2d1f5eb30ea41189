"""The measured studies of the series: for each, which runs there are and what one run measures."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fedlab_helpers import aggregation, federated, partition
from fedlab_helpers.devices import child_seed, intra_op_threads, numpy_rng
from fedlab_helpers.models import SentimentLSTM
from fedlab_helpers.state import of_model
from fedlab_helpers.task import Task, load_task
from fedlab_helpers.text import tokenize_all
from fedlab_helpers.training import LocalConfig, Metrics, evaluate, train

Settings = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One table of evidence.

    Args:
        name: of the command and of the file in data/results/.
        runs: the settings of every run; each must differ from all others.
        measure: settings -> the rows of this run; the runner adds settings and versions to them.
    """

    name: str
    runs: tuple[Settings, ...]
    measure: Callable[[Settings], Iterable[Row]]


def grid(**choices: Iterable[Any]) -> tuple[Settings, ...]:
    """Return the settings of every combination, the last choice varying fastest."""
    return tuple(dict(zip(choices, run, strict=True)) for run in product(*choices.values()))


@cache
def _task() -> Task:
    return load_task()  # always the same split: accuracies are compared on the same reviews


def measure_baseline(settings: Settings) -> list[Row]:
    """Return accuracy and loss of one centralised model; what is chosen is chosen on validation."""
    began = time.perf_counter()
    model, seed = settings["model"], settings["seed"]
    if model == "majority":
        chosen, validation, epochs = *_majority(), 0
    elif model == "tfidf":
        chosen, validation, epochs = *_tfidf(), 0
    else:
        with intra_op_threads(1):  # the same sums on a machine with more cores
            chosen, validation, epochs = _recurrent(model, seed)
    return [
        {
            **asdict(chosen),
            "validation_accuracy": validation.accuracy,
            "epochs": epochs,
            "seconds": round(time.perf_counter() - began, 1),
        }
    ]


def _majority() -> tuple[Metrics, Metrics]:
    """Always answer with the training reviews' class shares."""
    task = _task()
    shares = np.bincount(task.train.labels) / len(task.train)
    return tuple(
        _scored(np.tile(shares, (len(part), 1)), part.labels)
        for part in (task.test, task.validation)
    )


def _tfidf() -> tuple[Metrics, Metrics]:
    """Words and pairs of words, weighted by TF-IDF, with logistic regression."""
    task = _task()
    train_words, validation_words, test_words = (
        tokenize_all([review.text for review in part])
        for part in (task.train_reviews, task.validation_reviews, task.test_reviews)
    )
    tfidf = TfidfVectorizer(analyzer=_words_and_pairs, min_df=2, sublinear_tf=True)
    features = tfidf.fit_transform(train_words)
    fitted = []
    for strength in (1.0, 3.0, 10.0):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, task.train.labels)
        odds = model.predict_proba(tfidf.transform(validation_words))
        fitted.append((_scored(odds, task.validation.labels), model))
    validation, model = max(fitted, key=lambda pair: pair[0].accuracy)
    odds = model.predict_proba(tfidf.transform(test_words))
    return _scored(odds, task.test.labels), validation


def _words_and_pairs(tokens: list[str]) -> list[str]:
    return tokens + [" ".join(pair) for pair in pairwise(tokens)]


def _scored(probabilities: np.ndarray, labels) -> Metrics:
    labels = np.asarray(labels)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return Metrics(float(log_loss(labels, probabilities)), accuracy, len(labels))


def _recurrent(cell: str, seed: int, epochs: int = 6) -> tuple[Metrics, Metrics, int]:
    """Train for some epochs and keep the one that did best on the validation reviews."""
    task = _task()
    model = SentimentLSTM(len(task.vocab), cell=cell, dropout=0.3, seed=seed)
    best, chosen, weights = Metrics(float("inf"), -1.0, 0), 0, {}
    optimise = LocalConfig(epochs=1, lr=5e-3 if cell != "rnn" else 1e-3)
    for epoch in range(1, epochs + 1):
        train(model, task.train, optimise, seed=child_seed(seed, "epoch", epoch))
        validation = evaluate(model, task.validation)
        if validation.accuracy > best.accuracy:
            best, chosen, weights = validation, epoch, of_model(model)
    model.load_state_dict(weights)
    return evaluate(model, task.test), best, chosen


STRATEGIES = {"fedavg": aggregation.fedavg, "rowwise": aggregation.rowwise}


def measure_federated(settings: Settings) -> list[Row]:
    """Return accuracy, loss and bytes after every round of one federated run."""
    task, seed = _task(), settings["seed"]
    rng = numpy_rng(seed, "partition")
    if settings["partition"] == "iid":
        parts = partition.iid(task.train.labels, settings["clients"], rng)
    else:
        parts = partition.by_domain(task.domains, settings["clients"], rng)
    plan = federated.Plan(
        settings["rounds"],
        settings["cohort"],
        LocalConfig(settings["epochs"], settings["batch_size"], settings["lr"]),
        seed,
    )
    model = SentimentLSTM(len(task.vocab), seed=seed)
    strategy = STRATEGIES[settings["strategy"]]()
    history = federated.run(model, task.clients(parts), strategy, plan, test=task.test)
    columns = ["accuracy", "loss", "train_loss", "bytes_up", "total_bytes", "seconds"]
    frame = history.to_frame()[columns].round({"seconds": 3})
    return frame.reset_index().to_dict("records")


def _local_training_runs() -> tuple[Settings, ...]:
    fixed = {"clients": [20], "cohort": [10], "rounds": [15], "lr": [5e-3]}
    compared = [
        ("iid", "fedavg", 1, 32),
        ("iid", "fedavg", 2, 32),
        ("iid", "fedavg", 5, 32),
        ("iid", "fedavg", 1, 8),
        ("iid", "rowwise", 2, 32),
        ("by_domain", "fedavg", 2, 32),
        ("by_domain", "rowwise", 2, 32),
    ]
    names = ("partition", "strategy", "epochs", "batch_size")
    return tuple(
        {**dict(zip(names, case, strict=True)), **rest}
        for rest in grid(**fixed, seed=range(3))
        for case in compared
    )


STUDIES = {
    study.name: study
    for study in (
        Study(
            "baselines",
            (
                *grid(model=["majority", "tfidf"], seed=[0]),  # nothing random in them
                *grid(model=["lstm", "gru", "rnn"], seed=range(3)),
            ),
            measure_baseline,
        ),
        Study("local_training", _local_training_runs(), measure_federated),
    )
}
