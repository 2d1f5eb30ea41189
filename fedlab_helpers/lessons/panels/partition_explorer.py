"""The partition explorer: who holds what, redrawn as a control moves."""

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.panels.parts import Explorer, choice, powers, slider
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
    sentence = say("partition_readout", clients=clients, onesided=int(onesided.sum()), **sizes)
    return plots.partition_map(table, getattr(task, "classes", None)), sentence


class PartitionExplorer(Explorer):
    """How a task's training reviews are dealt to clients.

    Its controls are `kind`, `alpha`, `clients` and `seed`; what cannot be dealt is said in
    `readout`, and the picture stays as it was.
    """

    def __init__(self, task: Task):
        self.task = task
        self.kind = choice("explorer_kind", DEALS, "dirichlet")
        self.alpha = powers("explorer_alpha", 0.5, 0.01, 100.0)
        self.clients = slider("explorer_clients", 20, 2, 100)
        self.seed = slider("explorer_seed", 0, 0, 9)
        super().__init__([self.kind, self.alpha, self.clients, self.seed], width=640)

    def _draw(self, change: object = None) -> None:
        self.alpha.disabled = not DEALS[self.kind.value].uses_alpha
        settings = self.kind.value, self.clients.value, self.alpha.value, self.seed.value
        try:
            picture, sentence = dealt(self.task, *settings)
        except ValueError as error:
            self.readout.value = say("partition_refused", why=error)
            return
        self.image.value, self.readout.value = picture._repr_png_(), sentence
