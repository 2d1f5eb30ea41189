"""What server and nodes of a run agree on: model, words, strategy, plan. It travels as JSON."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from fedlab_helpers.compression import Compressed, Everything, Sign, Ternary, TopK, WithFeedback
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import STRATEGIES, make
from fedlab_helpers.tasks.reviews.labels import BUILT_IN, require_names
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

CODECS: dict[str, Callable[[], Codec]] = {
    "dense": wire.dense,
    "touched_rows": wire.touched_rows,
    "ternary": lambda: Compressed(Everything(), Ternary(), squeeze=3),
    "signs": lambda: WithFeedback(Compressed(TopK(0.1), Sign(), squeeze=3)),
}
_SIMULATED = ("workers", "dropout_rate", "pace")  # of a plan; a network has its own


@dataclass(frozen=True)
class Job:
    """A run, as plain values.

    Args:
        words: of the vocabulary, by id, without padding and unknown.
        plan: rounds, cohort, local training and seed; what it says of workers, dropouts and pace
            belongs to simulations, and does not travel.
        strategy: a name in `registry.STRATEGIES`.
        options: its parameters, by name; those left out are as they were tuned.
        codec: of updates, a name in `CODECS`.
        model: arguments of `SentimentLSTM` beside the number of words.
        max_len: words of a review that are read.
        classes: what they are called, by number; nodes whose files call them otherwise are
            refused.

    Raises:
        ValueError: a name is not known, or a parameter out of range.
    """

    words: tuple[str, ...]
    plan: Plan
    strategy: str = "fedavg"
    options: Mapping[str, float] = field(default_factory=dict)
    codec: str = "touched_rows"
    model: Mapping[str, Any] = field(default_factory=lambda: {"pooling": "mean", "seed": 0})
    max_len: int = 64
    classes: tuple[str, ...] = BUILT_IN

    def __post_init__(self):
        for name, known in (("strategy", STRATEGIES), ("codec", CODECS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {sorted(known)}"
                )
        names = require_names(self.classes, "classes")
        if odd := [n for place, n in enumerate(names) if n.isdigit() and n != str(place)]:
            raise ValueError(f"classes: got {names}, but nodes may write {odd[0]!r} for a number")
        by_row = self.new_strategy().combine.per_row
        if by_row and self.codec != "touched_rows":
            raise ValueError(
                f"codec: got {self.codec!r}, but {self.strategy} averages row by row: expected "
                "'touched_rows'"
            )

    @cached_property
    def vocab(self) -> Vocabulary:
        """The vocabulary."""
        return Vocabulary(self.words, classes=self.classes, max_len=self.max_len)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the model's weights."""
        return {name: tuple(t.shape) for name, t in of_model(self.new_model()).items()}

    def new_model(self) -> SentimentLSTM:
        """Return the model with its first weights, the same wherever it is made."""
        return SentimentLSTM(len(self.vocab), **self.model)

    def new_strategy(self) -> Strategy:
        """Return the strategy."""
        knows = STRATEGIES[self.strategy].knows_client_rate
        return make(self.strategy, **({"lr": self.plan.local.lr} if knows else {}) | self.options)

    def new_codec(self) -> Codec:
        """Return the codec."""
        return CODECS[self.codec]()

    def require_fit(self, weights: State) -> None:
        """Raise ValueError, with the name of the tensor, unless weights are those of the model."""
        if weights.keys() != self.shapes.keys():
            odd = sorted(weights.keys() ^ self.shapes.keys())
            raise ValueError(f"weights: {odd} are in what came or in the model, but not in both")
        for name, own in self.shapes.items():
            if (came := tuple(weights[name].shape)) != own:
                words = f"; this run's vocabulary has {len(self.vocab)} words"
                raise ValueError(
                    f"weights: {name} is {came}, expected {own}"
                    + (words if name == SentimentLSTM.token_parameter else "")
                )

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of this job, beside its plan."""
        words = hashlib.sha256("\n".join(self.words).encode()).hexdigest()
        own = {name: getattr(self, name) for name in ("codec", "max_len")}
        own["classes"] = list(self.classes)
        return {**own, "words": words, "options": dict(self.options), "model": dict(self.model)}

    def to_json(self) -> str:
        """Return the job as text."""
        plan = {n: value for n, value in asdict(self.plan).items() if n not in _SIMULATED}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(values | {"plan": plan}, ensure_ascii=False, default=dict)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job in a text that `to_json` wrote.

        Raises:
            ValueError: the text is not that of a job.
        """
        try:
            values = json.loads(text)
            plan = values.pop("plan")
            plan = Plan(**{**plan, "local": LocalConfig(**plan["local"])})
            lists = {name: tuple(values[name]) for name in ("words", "classes")}
            return cls(**values | lists | {"plan": plan})
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"job: not the JSON of one: {error!r}"[:500]) from error
