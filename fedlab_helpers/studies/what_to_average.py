"""What is worth averaging in an LSTM: each part kept private in turn, and how far it drifts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedlab_helpers import strategies
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import rounds, run
from fedlab_helpers.core.rows import make_whole
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.strategies.divergence import block_of, divergence, gates
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

GATES = {"i": "input gate", "f": "forget gate", "g": "candidate", "o": "output gate"}
PRIVATE = {
    "nothing": "",
    "embedding": "e",
    "recurrent": "ifgo",
    "head": "h",
    "recurrent and head": "ifgoh",
    **{name: gate for gate, name in GATES.items()},
}
_LETTERS = {"embedding": "e", "head": "h"}  # a gate's parameters begin with its own letter


class GateLSTM(nn.Module):
    """An LSTM layer whose gates are parameters of their own, so that each can be kept private.

    It computes exactly what the layer that it is made from computes.
    """

    def __init__(self, lstm: nn.LSTM):
        super().__init__()
        self._layer = (lstm,)  # not registered: its own weights are never used
        self.names = [name for name, _ in lstm.named_parameters()]
        for name, weight in lstm.named_parameters():
            for gate, rows in zip(GATES, weight.detach().chunk(4), strict=True):
                self.register_parameter(f"{gate}_{name}", nn.Parameter(rows.clone()))

    def forward(self, vectors: Tensor) -> tuple[Tensor, object]:
        """Return outputs (B, T, H) and the last states, for vectors (B, T, E)."""
        stacked = {
            name: torch.cat([getattr(self, f"{gate}_{name}") for gate in GATES])
            for name in self.names
        }
        return functional_call(self._layer[0], stacked, (vectors,))


def letter_of(name: str) -> str:
    """Return which part a parameter of the gated model belongs to: e, i, f, g, o or h."""
    return _LETTERS.get(block_of(name)) or name.split(".")[1][0]


def measure_private(settings: Settings) -> list[Row]:
    """Return how well the clients' own models do at the end, one part of each being its own.

    Accuracies are means over the clients: on all test reviews, and on those of its own domain.
    """
    private, recipe = PRIVATE[settings["private"]], study.recipe_of(settings, lr=5e-3)
    model, clients, _, plan = study.begin(recipe)
    model.recurrent, states = GateLSTM(model.recurrent), {}
    # Row by row concerns the embedding only: where that is private, nothing else changes.
    strategy = strategies.fedavg() if "e" in private else strategies.rowwise()
    parts = {"shared": lambda name: letter_of(name) not in private, "client_states": states}
    history = run(model, clients, strategy, plan, **parts)
    # Parts that are private are as they began in the model that the server holds.
    shared = of_model(model)
    homes = [task().domains[part[0]] for part in recipe.deal(task())]
    scores = [
        _own_scores(model, shared | states.get(client, {}).get("private", {}), domain)
        for client, domain in enumerate(homes)
    ]
    accuracy, at_home = np.mean(scores, axis=0)
    figures = study.rounded(accuracy=accuracy, own_domain_accuracy=at_home)
    return [{**figures, "bytes_up": sum(record.bytes_up for record in history)}]


def _own_scores(model: SentimentLSTM, weights: State, domain: str) -> tuple[float, float]:
    """Return one client's accuracy, on all test reviews and on those of its domain."""
    model.load_state_dict(weights)
    right = study.right_answers(model)
    home = np.array([review.domain == domain for review in task().test_reviews])
    return right.mean(), right[home].mean()


@dataclass(frozen=True, eq=False)
class Watched(Strategy):
    """Row-wise FedAvg that keeps a copy of the changes of the last round, whole."""

    combine: object = field(default_factory=lambda: strategies.rowwise().combine)
    seen: list[State] = field(default_factory=list)

    def aggregate(self, server, updates: Iterable[Update]):
        updates = list(updates)
        self.seen[:] = [make_whole(update, server.params).delta for update in updates]
        return super().aggregate(server, updates)


def measure_drift(settings: Settings) -> list[Row]:
    """Return length and agreement of the clients' changes, for each part, round by round."""
    model, clients, _, plan = study.begin(study.recipe_of(settings, lr=5e-3))
    watched, rows = Watched(), []
    for record in rounds(model, clients, watched, plan):
        changes = [gates(change) for change in watched.seen]
        for block in ("embedding", *GATES, "head"):
            measured = divergence(
                [{n: t for n, t in change.items() if block_of(n) == block} for change in changes]
            )
            figures = {key: round(value, 5) for key, value in measured.items()}
            rows.append({"round": record.round, "block": GATES.get(block, block), **figures})
    return rows


_FIXED = {"clients": [20], "cohort": [10], "rounds": [15]}
WHAT_TO_AVERAGE = Study(
    "what_to_average",
    grid(seed=range(3), partition=["by_domain"], **_FIXED, private=PRIVATE),
    measure_private,
)
BLOCK_DRIFT = Study(
    "block_drift",
    grid(seed=range(3), **_FIXED, partition=["iid", "by_domain", "dirichlet"], alpha=[0.1]),
    measure_drift,
)
