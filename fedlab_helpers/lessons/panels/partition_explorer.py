"""The partition explorer: who holds what, redrawn as a control moves."""

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels.explorer import Explorer
from fedlab_helpers.lessons.panels.parts import choice, powers, slider
from fedlab_helpers.lessons.words import say
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.task import DEALS, Task


def dealt(task: Task, kind: str, clients: int, alpha: float, seed: int) -> tuple[object, str]:
    """Return the picture of a partition, and a sentence on it. Raises ValueError if it cannot be
    dealt."""
    parts = task.deal(kind, clients, numpy_rng(seed, "partition"), alpha)
    table = partition.describe(parts, task.train.labels, task.domains)
    onesided = table.filter(regex="^label [^d]").max(axis=1) >= 0.95
    sizes = {"smallest": table["size"].min(), "largest": table["size"].max()}
    sizes["share"] = sizes["largest"] / table["size"].sum()
    sentence = say("partition_readout", clients=clients, onesided=int(onesided.sum()), **sizes)
    return plots.partition_map(table, getattr(task, "classes", None)), sentence


class PartitionExplorer(Explorer):
    """How a task's training reviews are dealt to clients.

    Its controls are `kind`, `alpha`, `clients` and `seed`; what cannot be dealt is said in
    `readout`, over a pale picture of the deal before.
    """

    def __init__(self, task: Task):
        self.task = task
        self.kind = choice("explorer_kind", DEALS, "dirichlet")
        self.alpha = powers("explorer_alpha", 0.5, 0.01, 100.0)
        self.clients = slider("explorer_clients", 20, 2, 100)
        self.seed = slider("explorer_seed", 0, 0, 9)
        names = ("kind", "alpha", "clients", "seed")
        super().__init__("explorer", {f"explorer_{name}": getattr(self, name) for name in names})

    def _look(self) -> tuple[plots.Picture, str]:
        kind = self.kind.value
        off = "" if DEALS[kind].uses_alpha else say("no_alpha", partition=say(kind))
        self.form.explain("explorer_alpha", off=off)
        try:
            return dealt(self.task, kind, self.clients.value, self.alpha.value, self.seed.value)
        except ValueError as error:
            told = {"partition": say(kind), "clients": self.clients.value, "why": error}
            raise ValueError(say("partition_refused", **told)) from error
