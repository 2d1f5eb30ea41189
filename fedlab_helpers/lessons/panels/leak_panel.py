"""What a server reads of a client's reviews, as a panel: words beside words."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ipywidgets
import traitlets
from torch import nn

from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.glosses import GLOSSES
from fedlab_helpers.lessons.panels.explorer import Explorer, View
from fedlab_helpers.lessons.panels.parts import choice, slider, steps
from fedlab_helpers.lessons.words import say
from fedlab_helpers.privacy import leaks
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task

REVIEWS = (
    Review("房间很干净,服务不错", 1, "hotel"),
    Review("电池不行,声音也太大", 0, "computer"),
    Review("快递很快,包装很好", 1, "shop"),
    Review("这本书太无聊了", 0, "book"),
)
SENDS = {
    "gradient": None,
    "sgd": LocalConfig(optimizer="sgd", lr=0.5),
    "adam": LocalConfig(),
    "adam_undone": LocalConfig(),
}
WRITTEN = {
    "float32": None,
    "float16": make_codec("everything", write="float16"),
    "bits8": make_codec("everything", write="bits8"),
    "signs_10": make_codec("topk", 0.1, "signs"),
}
NOISES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class Texts(ipywidgets.HTML):
    """Words in a row, in the place of `Maps`: `shown` has "html"."""

    shown = traitlets.Dict()
    mark = traitlets.List()
    pale = traitlets.Bool()

    @traitlets.observe("shown")
    def _show(self, change: dict[str, Any]) -> None:
        self.value = change["new"]["html"]


class LeakPanel(Explorer):
    """Choose what a client sends; below stands what can be read of it, beside what was written.

    Args:
        task: has the vocabulary, and reviews for a model of its own.
        trained: a model of the task's vocabulary; None: one is trained, two passes over 2,000
            reviews, some seconds.
    """

    name = "leak"
    canvas = Texts
    tries: Mapping[str, Mapping[str, object]] = {
        "try_one_gradient": {
            "reviews_sent": 1,
            "sends": "gradient",
            "leak_noise": 0.0,
            "stage": "trained",
        },
        "try_four_reviews": {
            "reviews_sent": 4,
            "sends": "gradient",
            "leak_noise": 0.0,
            "stage": "trained",
        },
        "try_adam": {
            "reviews_sent": 1,
            "sends": "adam",
            "local_steps": 5,
            "leak_noise": 0.0,
            "stage": "trained",
        },
        "try_noise": {
            "reviews_sent": 1,
            "sends": "gradient",
            "leak_noise": 1e-2,
            "stage": "trained",
        },
    }

    def __init__(self, task: Task, trained: nn.Module | None = None):
        self.task = task
        self.data = encode_reviews(REVIEWS, task.vocab)
        self.models = {"trained": trained or _trained(task), "untrained": _model(task)}
        shown = [("0" if std == 0 else f"{std:g}", std) for std in NOISES]
        super().__init__(
            {
                "reviews_sent": slider("reviews_sent", 1, 1, len(REVIEWS)),
                "stage": choice("stage", self.models, "trained"),
                "sends": choice("sends", SENDS, "gradient"),
                "local_steps": slider("local_steps", 1, 1, 5),
                "written_in": choice("written_in", WRITTEN, "float32"),
                "leak_noise": steps("leak_noise", shown, 0.0),
            }
        )

    def _read(self) -> tuple[list[list[str]], list[leaks.Sentence]]:
        """Return the words of the reviews, and the sentences that are read."""
        told = self.form.values
        count, model = told["reviews_sent"], self.models[told["stage"]]
        config, options = SENDS[told["sends"]], {"codec": WRITTEN[told["written_in"]]}
        if config:
            config = replace(config, epochs=told["local_steps"])
            options |= {"config": config, "undone": told["sends"] != "adam"}
        if told["leak_noise"]:
            options |= {"clip": 1.0, "noise": told["leak_noise"]}
        batch = next(iter(self.data.subset(range(count)).batches(None)))
        data = self.data.of(batch.inputs, batch.targets)
        seen = leaks.seen(model, data, **options)
        texts = [
            self.task.vocab.decode(row[:length].tolist())
            for row, length in zip(data.tokens, data.lengths, strict=True)
        ]
        return texts, leaks.attempt(model, seen, count, len({w for text in texts for w in text}))

    def _pairs(self) -> list[tuple[list[str], list[str], bool]]:
        """Return for each review its words, what comes closest to it, and whether it is certain."""
        texts, found = self._read()
        read = [(self.task.vocab.decode(each.tokens), each.certified) for each in found]
        return [(text, *max(read, key=lambda each: leaks.rouge_l(text, each[0]))) for text in texts]

    def _look(self) -> View:
        self.form.explain("local_steps", off=say("no_steps") if self._sends_gradient() else "")
        pairs = self._pairs()
        exact = sum(text == read for text, read, _ in pairs)
        told = {
            "exact": exact,
            "reviews": len(pairs),
            "certified": sum(certain for *_, certain in pairs),
            "found": sum(len(set(text) & set(read)) for text, read, _ in pairs),
            "words": sum(len(set(text)) for text, *_ in pairs),
        }
        html = "".join(plots.reading(*pair, GLOSSES).html for pair in pairs)
        return View({"html": html}, told)

    def _sends_gradient(self) -> bool:
        return SENDS[self.form.values["sends"]] is None

    def _still(self) -> plots.Picture:
        return plots.readings(self._pairs())


def _model(task: Task) -> SentimentLSTM:
    return SentimentLSTM(len(task.vocab), seed=0)


def _trained(task: Task) -> SentimentLSTM:
    model = _model(task)
    train(model, task.train.subset(range(min(2000, len(task.train)))), LocalConfig(epochs=2))
    return model
