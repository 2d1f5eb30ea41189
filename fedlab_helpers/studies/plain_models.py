"""What practitioners would use instead of a recurrent network: curves, linear models, trees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.tasks.next_word import WORDS
from fedlab_helpers.tasks.ngrams import NGram, asked_places
from fedlab_helpers.tasks.objectives import Risk

Table = tuple[np.ndarray, np.ndarray]  # features (n, k) and targets (n,) of all that is asked
Features = Callable[[Examples], np.ndarray]
Fit = Callable[[Table, float, bool], Callable[[np.ndarray], np.ndarray]]
Judge = Callable[[Examples], Tensor]  # examples -> a row for each that is asked


def places(data: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return row and step of each target that is asked, (n,) and (n,)."""
    return np.nonzero(~np.isnan(data.targets.numpy()))


def glucose_features(data: Examples) -> np.ndarray:
    """Return the levels of the last two hours, and the time of day."""
    seen, (row, step) = data.inputs[0].numpy(), places(data)
    lags = [seen[row, step - lag, 0] for lag in range(24)]
    return np.concatenate([np.stack(lags, 1), seen[row, step, 2:]], 1)


def turbine_features(data: Examples) -> np.ndarray:
    """Return what is seen now and ten, twenty, forty minutes before."""
    seen, (row, step) = data.inputs[0].numpy(), places(data)
    return np.concatenate([seen[row, step - lag] for lag in (0, 1, 2, 4)], 1)


def credit_features(data: Examples) -> np.ndarray:
    """Return the six months beside each other, and what is the same in all once."""
    seen = data.inputs[0].numpy()
    return np.concatenate([seen[:, :, :8].reshape(len(seen), -1), seen[:, 0, 8:]], 1)


def ward_features(data: Examples) -> np.ndarray:
    """Return what is seen now, its change, and means and minima of the last hours."""
    seen, (row, step) = data.inputs[0].numpy(), places(data)

    def last(hours: int, of: Callable) -> np.ndarray:
        parts = (seen[r, max(0, s + 1 - hours) : s + 1, :6] for r, s in zip(row, step, strict=True))
        return np.array([of(part, 0) for part in parts]).reshape(-1, 6)

    change = seen[row, step, :6] - seen[row, (step - 1).clip(0), :6]
    parts = [last(3, np.mean), last(8, np.mean), last(8, np.min)]
    return np.concatenate([seen[row, step], *parts, change], 1)


def table_of(data: Examples, features: Features) -> Table:
    """Return features and targets of all that is asked."""
    asked = data.targets.numpy()
    return features(data), asked[~np.isnan(asked)]


def wind_bins(features: np.ndarray, width: float) -> np.ndarray:
    """Return in which bin, so many m/s wide, the wind of each row is; the last begins at 25 m/s."""
    return np.clip((features[:, 0] + 2) * 3 / width, 0, 25 / width).astype(int)


def power_curve(table: Table, number: float, risk: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean power in each bin of wind, so many m/s wide; bins of fewer than four readings
    are bridged."""
    at = wind_bins(table[0], number)
    known = [k for k in range(at.max() + 1) if (at == k).sum() > 3]
    means = [table[1][at == k].mean() for k in known]
    return lambda features: np.interp(wind_bins(features, number), known, means)


def linear(table: Table, number: float, risk: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return a ridge regression, or a logistic one for a risk, with so much regularization."""
    model = LogisticRegression(C=1 / number, max_iter=1_000) if risk else Ridge(number)
    fitted = make_pipeline(StandardScaler(), model).fit(*table)
    return fitted.decision_function if risk else fitted.predict


def trees(table: Table, number: float, risk: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return gradient-boosted trees with this learning rate."""
    kind: Any = HistGradientBoostingClassifier if risk else HistGradientBoostingRegressor
    options = {"max_iter": 120, "max_leaf_nodes": 15, "l2_regularization": 5.0, "random_state": 0}
    fitted = kind(learning_rate=number, early_stopping=False, **options).fit(*table)
    return fitted.decision_function if risk else fitted.predict


def on_table(features: Features, kind: Fit) -> Callable[[Examples, float], Judge]:
    """Return what fits a model of a table to examples: (examples, number) -> how good it is."""

    def fitted(data: Examples, number: float) -> Judge:
        answer = kind(table_of(data, features), number, isinstance(data.objective, Risk))
        return lambda test: judge(test, answer(features(test)))

    return fitted


def ngram(order: int, data: Examples, number: float) -> Judge:
    """Return how good an n-gram with this discount is, counted in these examples."""
    model = NGram(data, WORDS, order, number)
    return lambda test: test.objective.judge(model.answer(test), asked_places(test).targets)


def judge(data: Examples, answers: np.ndarray) -> Tensor:
    """Return how the objective judges answers to all that is asked, (n, k)."""
    asked = data.targets[~data.targets.isnan()]
    return data.objective.judge(torch.from_numpy(np.asarray(answers, np.float32)), asked)
