"""The partition explorer: who holds what, redrawn as a control moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels.explorer import Explorer, View
from fedlab_helpers.lessons.panels.maps import ABOVE, pixels
from fedlab_helpers.lessons.panels.parts import choice, powers, slider
from fedlab_helpers.lessons.plots.clients import class_names
from fedlab_helpers.lessons.plots.runs import literal
from fedlab_helpers.lessons.words import say
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.task import DEALS, Task

_KINDS = "label", "domain"
_TWENTY = {"explorer_clients": 20, "explorer_seed": 0}


def in_numbers(table: pd.DataFrame) -> dict[str, Any]:
    """Return what sentences say of a deal: clients, smallest and largest of them, the largest one's
    share of all reviews, how many of the smallest hold no more together, how many see one label in
    95 of 100 reviews, and by how many bits labels and domains differ in the mean and at most.

    Args:
        table: from `partition.describe`, with domains.
    """
    sizes = table["size"].sort_values()
    onesided = table[_names(table, "label")].max(axis=1) >= 0.95
    return {
        "clients": len(table),
        "smallest": sizes.iloc[0],
        "largest": sizes.iloc[-1],
        "share": sizes.iloc[-1] / sizes.sum(),
        "together": int((sizes.iloc[:-1].cumsum() <= sizes.iloc[-1]).sum()),
        "onesided": int(onesided.sum()),
        **{f"{kind}_bits": table[f"{kind} divergence"].mean() for kind in _KINDS},
        **{f"{kind}_most": _most(table, kind) for kind in _KINDS},
    }


def _names(table: pd.DataFrame, kind: str) -> list[str]:
    """Return the columns that are shares of labels, or of domains."""
    own = table.columns.drop(f"{kind} divergence")
    return [name for name in own if name.startswith(f"{kind} ")]


def _most(table: pd.DataFrame, kind: str) -> float:
    """Return by how many bits a client can differ at most from what all hold together: as the
    divergence is convex, that is one of a single class, the rarest."""
    held = table[_names(table, kind)].mul(table["size"], axis=0).sum() / table["size"].sum()
    rarest = held.min()
    own = np.log2((1 + rarest) / 2)
    return float((rarest * np.log2(rarest) - (1 + rarest) * own + 1 - rarest) / 2)


def _shown(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Return a deal as `Maps` has it: sizes, shares of labels, shares of domains."""
    names = {kind: _names(table, kind) for kind in _KINDS}
    called = {
        kind: [name.removeprefix(f"{kind} ") for name in columns] for kind, columns in names.items()
    }
    called["label"] = class_names(called["label"], classes)
    shares = table[names["label"] + names["domain"]].to_numpy()
    tips = [
        _tip(client, size, called["label"] + called["domain"], row)
        for client, (size, row) in enumerate(zip(table["size"], shares, strict=True))
    ]
    panes = [{"label": say("reviews"), "height": 90, "bars": table["size"].tolist()}]
    for kind in _KINDS:
        bits = {"bits": table[f"{kind} divergence"].mean(), "most": _most(table, kind)}
        pane = {
            "label": say(f"map_{kind}", **bits),
            "height": 28 * len(names[kind]),
            "rows": len(names[kind]),
            "ticks": [[row, name] for row, name in enumerate(called[kind])],
            "pixels": pixels(table[names[kind]].to_numpy().T),
        }
        panes.append(pane)
    ticks = range(0, len(table), max(1, round(len(table) / 10)))
    x = {"label": say("client"), "columns": len(table), "ticks": [[at, str(at)] for at in ticks]}
    colours = ["transparent", f"rgb{ABOVE}"]
    key = {"label": say("share_of_client"), "names": ["0%", "100%"], "colours": colours}
    return {"x": x, "panes": [pane | {"tips": [tips]} for pane in panes], "key": key}


def _tip(client: int, size: int, names: Sequence[str], shares: Sequence[float]) -> str:
    lines = [f"{name}: {share:.0%}" for name, share in zip(names, shares, strict=True)]
    return "\n".join([say("client_tip", client=client, reviews=size), *lines])


class PartitionExplorer(Explorer):
    """How a task's training reviews are dealt to clients.

    Its controls are `kind`, `alpha`, `clients` and `seed`; what cannot be dealt is said in
    `readout`, over a pale picture of the deal before.
    """

    name = "explorer"
    tries: Mapping[str, Mapping[str, object]] = {
        name: {"explorer_kind": kind, "explorer_alpha": alpha} | _TWENTY
        for name, kind, alpha in (
            ("try_alike", "iid", 0.5),
            ("try_one_label", "dirichlet", 0.1),
            ("try_one_domain", "by_domain", 0.5),
            ("try_large_one", "quantity", 0.5),
        )
    }

    def __init__(self, task: Task):
        self.task = task
        self.kind = choice("explorer_kind", DEALS, "dirichlet")
        self.alpha = powers("explorer_alpha", 0.5, 0.01, 100.0)
        self.clients = slider("explorer_clients", 20, 2, 100)
        self.seed = slider("explorer_seed", 0, 0, 9)
        names = ("kind", "alpha", "clients", "seed")
        super().__init__({f"explorer_{name}": getattr(self, name) for name in names})

    def _table(self) -> pd.DataFrame:
        rng = numpy_rng(self.seed.value, "partition")
        parts = self.task.deal(self.kind.value, self.clients.value, rng, self.alpha.value)
        return partition.describe(parts, self.task.train.labels, self.task.domains)

    def _look(self) -> View:
        kind = self.kind.value
        off = "" if DEALS[kind].uses_alpha else say("no_alpha", partition=say(kind))
        self.form.explain("explorer_alpha", off=off)
        try:
            table = self._table()
        except ValueError as error:
            told = {"partition": say(kind), "clients": self.clients.value}
            raise ValueError(say("partition_refused", **told, why=self._why())) from error
        return View(_shown(table, self.task.classes), in_numbers(table))

    def _why(self) -> str:
        """Return why these settings deal nothing."""
        domains = len(set(self.task.domains))
        few = self.kind.value == "by_domain" and self.clients.value < domains
        return say("too_few_clients" if few else "too_few_reviews", domains=domains)

    def _still(self) -> plots.Picture:
        try:
            table = self._table()
        except ValueError:  # nothing is dealt: the picture says why
            picture = plots.Picture(figsize=(6.4, 1.2))
            told = literal(self.readout)
            picture.text(0.5, 0.5, told, ha="center", va="center", fontsize=9, wrap=True)
            return picture
        return plots.partition_map(table, self.task.classes)
