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
    `test` is looked at once. The three are disjoint; of series, each comes after the one before.
    Raises ValueError, with the name, where nothing is asked in a part."""

    name: str
    train: Examples
    validation: Examples
    test: Examples

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            part = getattr(self, name)
            came = f"{len(part)} examples of which nothing is asked"
            require(part.asked > 0, f"{self.name}: {name}", came, "at least one that is asked")


def together(parts: Sequence[Examples]) -> Examples:
    """Return the examples of all parts as one, in their order.

    Raises ValueError: there is no part, they are asked different things, or their widths, dtypes or
    padding differ.
    """
    require(len(parts) > 0, "parts", len(parts), "at least one")
    first = parts[0]
    odd = [part.objective for part in parts if part.objective != first.objective]
    require(not odd, "parts: asked", odd[:1], f"all to be asked {first.objective!r}")
    columns = [(*part.inputs, part.targets) for part in parts]
    kinds = [[f"{tuple(t.shape[1:])} {t.dtype}" for t in column] for column in columns]
    odd = [kind for kind in kinds if kind != kinds[0]]
    require(not odd, "parts: shapes behind N", odd[:1], f"{kinds[0]} for all")
    same = {part.padded for part in parts} == {first.padded}
    require(same, "parts", "padded ones and others", "all of them padded, or none")
    *inputs, targets = (torch.cat(column) for column in zip(*columns, strict=True))
    return first.of(inputs, targets)


def score(objective: Objective, rows: Sequence[Tensor]) -> dict[str, dict[str, float]]:
    """Return what models are worth, of what `judged` says of each owner's test, (n, k).

    Returns:
        "pooled": the measures of all that is asked, together; "own": the mean of each owner's own
        measures, owners of whom a measure is not known (the AUC of one class) left out; "worst":
        the worst of them. For a mean, such as recall, "own" weighs owners alike, "pooled" what they
        are asked; of what is no mean, such as AUC, the two are different questions. NaN where a
        measure is known of nobody.

    Raises ValueError: there is no owner.
    """
    require(len(rows) > 0, "rows", len(rows), "those of at least one owner")
    single = [objective.metrics(judged) for judged in rows]
    own = {name: np.array([figures[name] for figures in single]) for name in single[0]}
    known = {n: v if np.isnan(v).all() else v[~np.isnan(v)] for n, v in own.items()}
    up = objective.higher_is_better
    return {
        "pooled": objective.metrics(torch.cat([*rows])),
        "own": {name: float(values.mean()) for name, values in known.items()},
        "worst": {n: float(v.min() if up and n != "loss" else v.max()) for n, v in known.items()},
    }
