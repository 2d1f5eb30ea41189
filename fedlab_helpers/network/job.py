"""What server and nodes of a run agree on: words, classes, model, strategy, plan; it is JSON."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.compression.registry import LOSSLESS, PARTS, feeds_back, make_codec
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Codec, Transform
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require
from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy, require_cohort
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.privacy import Clip, GaussianNoise
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import Recipe, make_strategy
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.tasks.reviews.corpus import load_reviews
from fedlab_helpers.tasks.reviews.encoded import encode_reviews
from fedlab_helpers.tasks.reviews.labels import BUILT_IN, require_names
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import Vocabulary

CODECS: dict[str, dict[str, Any]] = {  # by name, the parts that a recipe has
    **{name: {"keep": name} for name in LOSSLESS},
    "ternary": {"keep": "everything", "write": "ternary", "squeeze": 3},
    "signs": {"keep": "topk", "amount": 0.1, "write": "signs", "squeeze": 3, "feedback": True},
}
TRANSFORMS = {"clip": Clip, "noise": GaussianNoise}  # by name, each of one number
_SIMULATED = ("workers", "dropout_rate", "pace")  # of a plan; a network has its own


@dataclass(frozen=True)
class Job:
    """A run, as plain values.

    Args:
        words: of the vocabulary, by id, without padding and unknown.
        plan: rounds, cohort, local training and seed; what it says of workers, dropouts and pace
            belongs to simulations, and does not travel.
        strategy: a name in the registry of strategies.
        options: its parameters, by name, and `server_rate`; those left out are as in the registry.
        codec: of updates, a name in `CODECS`, or the parts of one, as in `Recipe`.
        model: arguments of `SentimentLSTM` beside the number of words.
        max_len: words of a review that are read.
        classes: what labels 0, 1, … are called; nodes whose files call them otherwise are refused.
        downlink: how what changed of the weights is sent to clients, a name in `CODECS` but for
            "ternary", or the parts of a codec; each client then holds the weights of the round
            before on its disk. None: the weights are sent whole each time.
        task: "reviews", or "module:name" of somebody's own, which server and nodes import: its
            `new_model()` makes the model, `examples(path)` what a node's file holds;
            "fedlab_helpers.tasks:glucose", say, of one person's readings each.
        secure: how updates are summed so that the server sees none of them, with codec "dense".
        transforms: what a node does to its update before it is encoded, in this order: names in
            `TRANSFORMS`, each with its number.
    """

    words: tuple[str, ...]
    plan: Plan
    strategy: str = "fedavg"
    options: Mapping[str, float] = field(default_factory=dict)
    codec: str | Mapping[str, Any] = "touched_rows"
    downlink: str | Mapping[str, Any] | None = None
    model: Mapping[str, Any] = field(default_factory=lambda: {"pooling": "mean", "seed": 0})
    max_len: int = 64
    classes: tuple[str, ...] = BUILT_IN
    task: str = "reviews"
    secure: SecureSum | None = None
    transforms: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        for name in ("codec", "downlink"):
            own = getattr(self, name)
            fine = own in CODECS if isinstance(own, str) else isinstance(own, Mapping)
            fine = fine or (own is None and name == "downlink")
            require(fine, name, own, f"one of {sorted(CODECS)}")
        known = self.strategy in STRATEGIES
        require(known, "strategy", self.strategy, f"one of {sorted(STRATEGIES)}")
        classes = require_names(self.classes, "classes")
        odd = [n for place, n in enumerate(classes) if n.isdigit() and n != str(place)]
        require(not odd, "classes", classes, f"none of {odd}: nodes may write numbers for names")
        for name, _ in self.transforms:
            require(name in TRANSFORMS, "transforms", name, f"each one of {sorted(TRANSFORMS)}")
        strategy, _, _ = self.new_strategy(), self.new_codec(), self.new_transforms()
        self.new_downlink()
        fine = self.codec == "touched_rows" or not strategy.combine.per_row
        expected = f"'touched_rows', as {self.strategy} averages row by row"
        require(fine, "codec", self.codec, expected)
        fine = self.secure is None or self.codec == "dense"
        require(fine, "codec", self.codec, "'dense': a secure sum is over every value")

    @classmethod
    def of(cls, recipe: Recipe, task: Task) -> "Job":
        """Return the job that trains as a recipe does, for the words and classes of a task. Raises
        ValueError: it has a personal method or attackers, which a network has not."""
        for name in ("method", "attackers"):
            value = getattr(recipe, name)
            require(not value, name, value, "none in a network")
        codec = {name: getattr(recipe, name) for name in PARTS}
        own = {
            "options": {**dict(recipe.parameters), "server_rate": recipe.server_rate},
            "codec": recipe.keep if recipe.keep in LOSSLESS else codec,
            "model": recipe.model_options(len(task.classes)),
            "max_len": task.train.tokens.shape[1],
        }
        words = task.vocab.words[2:]
        return cls(words, recipe.plan(), recipe.strategy, classes=task.classes, **own)

    @cached_property
    def vocab(self) -> Vocabulary:
        """The vocabulary."""
        return Vocabulary(self.words, classes=self.classes, max_len=self.max_len)

    @cached_property
    def own_task(self) -> Any | None:
        """Somebody's own task; None for reviews. Raises ValueError: it cannot be imported here."""
        if self.task == "reviews":
            return None
        module, _, name = self.task.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            expected = "'reviews', or 'module:name' of what this machine can import"
            raise ValueError(f"task: got {self.task!r}, expected {expected}: {error}") from error

    def new_model(self) -> nn.Module:
        """Return the model with its first weights, the same wherever it is made."""
        own = self.own_task
        return own.new_model() if own else SentimentLSTM(len(self.vocab), **self.model)

    def examples(self, path: str | Path) -> Examples:
        """Return what a node's file holds, all of it, be it of one class only. Raises ValueError:
        it cannot be read as meant, or its labels are neither the job's classes nor their numbers.
        """
        if own := self.own_task:
            return own.examples(path)
        reviews = load_reviews(path, labels=self.classes, clean=False)
        return encode_reviews(reviews, self.vocab, self.max_len)

    def new_strategy(self) -> Strategy:
        """Return the strategy."""
        options = dict(self.options)
        rate = options.pop("server_rate", None)
        return make_strategy(self.strategy, options, self.plan.local.lr, rate)

    def new_codec(self) -> Codec:
        """Return the codec."""
        return make_codec(**_parts(self.codec))

    def new_downlink(self) -> Changes | None:
        """Return how changes are sent to clients, who know the first weights: the job makes them.
        Raises ValueError: its codec may lose more than there was."""
        if self.downlink is None:
            return None
        parts = {"keep": "touched_rows", "write": None, **_parts(self.downlink), "momentum": 0.0}
        # What is lost is part of the next change, as with feedback.
        more = feeds_back(parts["keep"], parts["write"])
        codec = make_codec(**{**parts, "feedback": more})
        return Changes(getattr(codec, "codec", codec), known_start=True)

    def new_transforms(self) -> tuple[Transform, ...]:
        """Return what a node's update passes. Raises ValueError: a number is out of range."""
        return tuple(TRANSFORMS[name](number) for name, number in self.transforms)

    def require_fit(self, weights: State) -> None:
        """Raise ValueError, with the name of the tensor, unless weights are those of the model."""
        model = self.new_model().state_dict()
        for name in model | weights:
            came, own = (tuple(s[name].shape) if name in s else None for s in (weights, model))
            words = f"; this run's vocabulary has {len(self.vocab)} words"
            more = words if name == SentimentLSTM.token_parameter else ""
            if came != own:
                raise ValueError(f"weights: {name} is {came}, expected {own}{more}")

    def require_clients(self, count: int) -> None:
        """Raise ValueError unless so many clients are enough for its cohorts and its strategy."""
        size = len(sample_cohort(replace(self.plan, sampling="fixed"), 1, count))
        poisson = self.plan.sampling == "poisson"
        require_cohort(self.new_strategy().combine, 1 if poisson else size)

    def to_json(self) -> str:
        """Return the job as text."""
        plan = {n: value for n, value in asdict(self.plan).items() if n not in _SIMULATED}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        own = {"plan": plan, "secure": asdict(self.secure) if self.secure else None}
        return json.dumps(values | own, ensure_ascii=False, default=dict)

    @classmethod
    def from_json(cls, written: str) -> "Job":
        """Return the job that `to_json` wrote. Raises ValueError for any other text."""
        try:
            values = json.loads(written)
            plan = values.pop("plan")
            plan = Plan(**{**plan, "local": LocalConfig(**plan["local"])})
            lists = {name: tuple(values[name]) for name in ("words", "classes")}
            lists["transforms"] = tuple((name, number) for name, number in values["transforms"])
            secure = SecureSum(**values["secure"]) if values["secure"] else None
            return cls(**values | lists | {"plan": plan, "secure": secure})
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"job: not the JSON of one: {error!r}"[:500]) from error


def _parts(codec: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return CODECS[codec] if isinstance(codec, str) else codec
