"""The partition explorer: who holds what, redrawn as a control moves."""

import ipywidgets

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.lessons.panels.parts import powers
from fedlab_helpers.lessons.plots.basic import Picture
from fedlab_helpers.lessons.plots.partitions import partition_map
from fedlab_helpers.lessons.words import text
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.task import DEALS, Task


def dealt(task: Task, kind: str, clients: int, alpha: float, seed: int) -> tuple[Picture, str]:
    """Return the picture of a partition, and a sentence on it.

    Raises:
        ValueError: it cannot be dealt.
    """
    parts = task.deal(kind, clients, numpy_rng(seed, "partition"), alpha)
    table = partition.describe(parts, task.train.labels, task.domains)
    onesided = table.filter(regex="^label [^d]").max(axis=1) >= 0.95
    sentence = text(
        "partition_readout",
        clients=clients,
        smallest=table["size"].min(),
        largest=table["size"].max(),
        onesided=int(onesided.sum()),
    )
    return partition_map(table), sentence


class PartitionExplorer(ipywidgets.VBox):
    """How a task's training reviews are dealt to clients.

    Its controls are `kind`, `alpha`, `clients` and `seed`; what cannot be dealt is said in
    `readout`, and the picture stays as it was.

    Args:
        task: whose training reviews are dealt.
    """

    def __init__(self, task: Task):
        self.task = task
        wide = {"style": {"description_width": "11em"}, "layout": ipywidgets.Layout(width="34em")}
        self.kind = ipywidgets.Dropdown(
            options=[(text(kind), kind) for kind in DEALS],
            value="dirichlet",
            description=text("partition_kind"),
            **wide,
        )
        self.alpha = powers(0.5, 0.01, 100.0, description=text("partition_alpha"), **wide)
        self.clients = ipywidgets.IntSlider(
            20, 2, 100, description=text("partition_clients"), **wide
        )
        self.seed = ipywidgets.IntSlider(0, 0, 9, description=text("partition_seed"), **wide)
        self.image = ipywidgets.Image(format="png", width=640)
        self.readout = ipywidgets.Label()
        self.readout.add_class("fl-readout")
        controls = {"kind": self.kind, "alpha": self.alpha, "clients": self.clients}
        for name, control in {**controls, "seed": self.seed}.items():
            control.add_class(f"fl-explorer-{name}")
            control.observe(self._draw, "value")
        hint = ipywidgets.Label(text("re_run"))
        super().__init__([*controls.values(), self.seed, self.image, self.readout, hint])
        self._draw()

    def _draw(self, change: object = None) -> None:
        self.alpha.disabled = not DEALS[self.kind.value].uses_alpha
        settings = self.kind.value, self.clients.value, self.alpha.value, self.seed.value
        try:
            picture, sentence = dealt(self.task, *settings)
        except ValueError as error:
            self.readout.value = text("partition_refused", why=error)
            return
        self.image.value, self.readout.value = picture._repr_png_(), sentence
