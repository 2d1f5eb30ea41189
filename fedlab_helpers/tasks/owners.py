"""Owners of data, each with a part to learn from, one to choose by, and one to be tested on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import require


@dataclass(frozen=True, eq=False)
class Owner:
    """A person, a turbine, a bank: `train` is learnt from, choices are made on `validation`, and
    `test` is looked at once. The three are disjoint; of series, each comes after the one before."""

    name: str
    train: Examples
    validation: Examples
    test: Examples


def together(parts: Sequence[Examples]) -> Examples:
    """Return the examples of all parts as one, in their order.

    Raises ValueError: there is no part, they are asked different things, or their widths differ.
    """
    require(len(parts) > 0, "parts", len(parts), "at least one")
    first = parts[0]
    odd = [part.objective for part in parts if part.objective != first.objective]
    require(not odd, "parts: asked", odd[:1], f"all to be asked {first.objective!r}")
    columns = [(*part.inputs, part.targets) for part in parts]
    shapes = sorted({tuple(tuple(t.shape[1:]) for t in column) for column in columns})
    require(len(shapes) == 1, "parts: shapes behind N", shapes, "the same for all")
    *inputs, targets = (torch.cat(column) for column in zip(*columns, strict=True))
    return first.of(inputs, targets)


def score(objective: Objective, rows: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """Return what models are worth, of what `judged` says of each owner's test, (n, k).

    Returns:
        "pooled": the measures of all that is asked, together; "own": the mean of each owner's own
        measures, owners of whom a measure is not known (the AUC of one class) left out; "worst":
        the worst of them. For a mean, such as recall, "own" weighs owners alike, "pooled" what they
        are asked; of what is no mean, such as AUC, the two are different questions.
    """
    single = [objective.metrics(judged) for judged in rows]
    own = {name: np.array([figures[name] for figures in single]) for name in single[0]}
    known = {name: values[~np.isnan(values)] for name, values in own.items()}
    up = objective.higher_is_better
    return {
        "pooled": objective.metrics(torch.cat([*rows])),
        "own": {name: float(values.mean()) for name, values in known.items()},
        "worst": {n: float(v.min() if up and n != "loss" else v.max()) for n, v in known.items()},
    }
