"""What an update gives away, measured: its words, its sentences, and who was trained on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import State, of_model, subtract
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy import leaks
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies.study import Row, Settings, Study, begin, grid, rounded, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

STAGES = (0, 1, 2, 5, 10, 20)
_MANY, _FEW = 100, 40  # attacks on each condition
ADAM, SGD = LocalConfig(), LocalConfig(optimizer="sgd", lr=0.5)
PLAIN = LocalConfig(optimizer="sgd", lr=1.0, max_grad_norm=None)


@cache
def stages(seed: int, cell: str = "lstm", pooling: str = "last") -> dict[int, State]:
    """Return the global weights of one run of 20 clients after each of `STAGES`."""
    own = {"cell": cell, "pooling": pooling, "dropout": 0.0}
    recipe = Recipe("rowwise", partition="iid", clients=20, cohort=20, rounds=20, seed=seed, **own)
    model, clients, strategy, plan = begin(recipe, lr=ADAM.lr)
    found = {0: of_model(model)}
    for record in rounds(model, clients, strategy, plan):
        if record.round in STAGES:
            found[record.round] = of_model(model)
    return found


def model_at(stage: int, seed: int, cell: str = "lstm", pooling: str = "last", **other: float):
    """Return the model of such a run after a round; `other`, such as dropout, as in its class."""
    model = SentimentLSTM(len(task().vocab), cell=cell, pooling=pooling, **other)
    model.load_state_dict(stages(seed, cell, pooling)[stage])
    return model.eval()


@dataclass(frozen=True)
class Condition:
    """What an attacker gets to see: as `leaks.seen` has it, of how many reviews, of at most how
    many words, with how many others in the same mean, and with which dropout."""

    sentences: int = 1
    longest: int = leaks.LONGEST
    beside: int = 0
    dropout: float = 0.0
    sent: Mapping[str, Any] = field(default_factory=dict)


def _sent(**options: Any) -> Condition:
    return Condition(sent=options)


CONDITIONS = {
    "gradient": Condition(),
    "1 review": Condition(longest=20),
    "2 reviews": Condition(sentences=2, longest=20),
    "4 reviews": Condition(sentences=4, longest=14),
    "8 reviews": Condition(sentences=8, longest=9),
    "sgd, 1 step": _sent(config=SGD),
    "sgd, 5 steps": _sent(config=replace(SGD, epochs=5)),
    "adam, 1 step": _sent(config=ADAM, undone=False),
    "adam, 1 step undone": _sent(config=ADAM),
    "adam, 5 steps": _sent(config=replace(ADAM, epochs=5), undone=False),
    "float16": _sent(codec=make_codec("everything", write="float16")),
    "8 bits": _sent(codec=make_codec("everything", write="bits8")),
    "signs of 10%": _sent(codec=make_codec("topk", 0.1, "signs")),
    "signs of 1%": _sent(codec=make_codec("topk", 0.01, "signs")),
    # One step of SGD at rate 1, unclipped, is the gradient; only training drops values.
    "dropout 0.5": replace(_sent(config=PLAIN), dropout=0.5),
    "clipped": _sent(clip=1.0),
    **{f"noise {std:.0e}": _sent(clip=1.0, noise=std) for std in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)},
    "mean of 10": Condition(beside=9),
    "mean of 100": Condition(beside=99),
}


def attacked(model: SentimentLSTM, condition: Condition, seed: int, times: int) -> Row:
    """Return how much of so many draws of test reviews is read off what a condition shows."""
    rng = numpy_rng(seed, "leaks")
    short = (task().test.lengths <= condition.longest).nonzero()[:, 0].numpy()
    scores = [
        _attack(model, condition, task().test.subset(chosen), child_seed(seed, "attack", turn))
        for turn in range(times)
        for chosen in [rng.choice(short, condition.sentences + condition.beside, replace=False)]
    ]
    means = {name: np.mean([score[name] for score in scores]) for name in scores[0]}
    false = sum(score["certified"] and score["exact"] != 1 for score in scores)
    return {"attacks": times, "false_certificates": false, **rounded(**means)}


def _attack(model: SentimentLSTM, condition: Condition, data: EncodedReviews, seed: int) -> Row:
    batch = next(iter(data.batches(None)))
    cut = EncodedReviews(*batch.inputs, batch.targets)
    model.dropout.p = condition.dropout
    seen = leaks.seen(model, cut, seed=seed, **condition.sent)
    model.dropout.p = 0.0
    rows = zip(data.tokens, data.lengths, strict=True)
    wanted = [tuple(row[:length].tolist()) for row, length in rows][: condition.sentences]
    began = time.process_time()
    found = leaks.attempt(model, seen, condition.sentences, len(set().union(*wanted)))
    took = time.process_time() - began
    closest = [max(leaks.rouge_l(text, f.tokens) for f in found) for text in wanted]
    labels = sorted(f.label for f in found) == sorted(data.labels[: len(wanted)].tolist())
    there = torch.zeros(len(task().vocab))
    there[data.tokens.flatten()] = 1
    there[0] = 0
    return {
        "exact": np.mean([text in [f.tokens for f in found] for text in wanted]),
        "certified": float(found[0].certified),
        "rouge_l": np.mean(closest),
        "labels": float(labels),
        "word_auc": leaks.auc(there[1:], seen["embedding.weight"].norm(dim=1)[1:]),
        "milliseconds": 1000 * took,
    }


def measure_sentences(settings: Settings) -> list[Row]:
    """Return a row for each stage and condition; other models than the first: gradients only."""
    seed, kind = settings["seed"], (settings["cell"], settings["pooling"])
    rows = []
    for stage in STAGES:
        model = model_at(stage, seed, *kind)
        all_conditions = kind == ("lstm", "last") and stage in (0, 10)
        for name in CONDITIONS if all_conditions else ["gradient"]:
            times = _MANY if name == "gradient" and kind == _KINDS[0] else _FEW
            row = attacked(model, CONDITIONS[name], seed, times)
            rows.append({"round": stage, "condition": name, **row})
    return rows


def measure_matching(settings: Settings) -> list[Row]:
    """Return how well gradient matching reads short reviews, and dominoes the same ones."""
    model = model_at(settings["round"], settings["seed"])
    rng, longest = numpy_rng(settings["seed"], "matching"), settings["longest"]
    short = (task().test.lengths <= longest).nonzero()[:, 0].numpy()
    scores: dict[str, list[Row]] = {"matching": [], "dominoes": []}
    for turn, place in enumerate(rng.choice(short, _FEW, replace=False)):
        one = task().test.subset([place])
        text = tuple(one.tokens[0, : one.lengths[0]].tolist())
        seen = leaks.gradient_of(model, one)
        for name, attack in {
            "matching": lambda: leaks.match(model, seen, len(text), seed=turn),  # noqa: B023
            "dominoes": lambda: leaks.read(model, seen)[0],  # noqa: B023
        }.items():
            began = time.process_time()
            found = attack().tokens
            took = 1000 * (time.process_time() - began)
            score = {"exact": found == text, "rouge_l": leaks.rouge_l(text, found)}
            scores[name].append(score | {"milliseconds": took})
    return [
        {"attack": name, "attacks": len(each), **rounded(**pd.DataFrame(each).mean())}
        for name, each in scores.items()
    ]


def measure_words(settings: Settings) -> list[Row]:
    """Return what the rows of a client's change say of its words, sent dense."""
    seed, reviews = settings["seed"], settings["reviews"]
    config = replace({"adam": ADAM, "sgd": SGD}[settings["optimizer"]], epochs=settings["epochs"])
    rng, rows = numpy_rng(seed, "words", reviews), []
    for stage in (0, 20):
        scores = []
        for client in range(8):
            data = task().train.subset(rng.choice(len(task().train), reviews, replace=False))
            model = model_at(stage, seed)
            before = of_model(model)
            train(model, data, config, seed=child_seed(seed, client))
            scores.append(_row_scores(subtract(of_model(model), before), data))
        means = {name: np.mean([score[name] for score in scores]) for name in scores[0]}
        rows.append({"round": stage, **rounded(**means)})
    return rows


def _row_scores(change: State, data: EncodedReviews) -> Row:
    from scipy.stats import kendalltau, spearmanr

    table = change["embedding.weight"]
    counts = torch.bincount(data.tokens.flatten(), minlength=len(table)).numpy()
    counts[0] = 0
    moved, there = table.any(1).numpy(), counts > 0
    sizes = table.norm(dim=1).numpy()
    hits = (moved & there).sum()
    score = {"recall": hits / there.sum(), "precision": hits / moved.sum()}
    score["spearman"] = spearmanr(sizes[there], counts[there]).statistic
    score["kendall"] = kendalltau(sizes[there], counts[there]).statistic
    return score


def measure_clock(settings: Settings) -> list[Row]:
    """Return how well the order of the rows' sizes is that of the words."""
    from scipy.stats import kendalltau

    rows = []
    for stage in STAGES:
        model, rng = model_at(stage, settings["seed"]), numpy_rng(settings["seed"], "clock")
        taus, rouges = [], []
        for place in rng.choice(len(task().test), _MANY, replace=False):
            one = task().test.subset([place])
            text = one.tokens[0, : one.lengths[0]].tolist()
            order = leaks.clock(leaks.gradient_of(model, one)["embedding.weight"]).tolist()
            last = {word: at for at, word in enumerate(text)}
            if len(order) > 1:
                taus.append(kendalltau(range(len(order)), [last[w] for w in order]).statistic)
            rouges.append(leaks.rouge_l(text, order))
        scores = {"kendall": np.mean(taus), "rouge_l": np.mean(rouges)}
        rows.append({"round": stage, **rounded(**scores)})
    return rows


def measure_membership(settings: Settings) -> list[Row]:
    """Return how well three attacks tell a new client's reviews from others, none of which the
    global model has seen."""
    seed, reviews = settings["seed"], settings["reviews"]
    scores: dict[str, list[np.ndarray]] = {"words": [], "loss": [], "lira": []}
    for client in range(settings["clients"]):
        rng = numpy_rng(seed, "membership", client)
        pool = task().test.subset(rng.permutation(len(task().test))[: 2 * reviews])
        for name, score in _told_apart(pool, reviews, seed, client).items():
            scores[name].append(score)
    member = np.tile(np.arange(2 * reviews) < reviews, settings["clients"])
    return [
        {
            "attack": name,
            **rounded(
                auc=leaks.auc(member, np.concatenate(each)),
                true_positives=leaks.true_positives(member, np.concatenate(each)),
            ),
        }
        for name, each in scores.items()
    ]


def _told_apart(
    pool: EncodedReviews, reviews: int, seed: int, client: int
) -> dict[str, np.ndarray]:
    """Return each attack's score of the reviews of a pool, of which the first were trained on."""

    def after(chosen: np.ndarray, number: int) -> tuple[State, np.ndarray]:
        model = model_at(10, seed)
        before = of_model(model)
        train(model, pool.subset(chosen), ADAM, seed=child_seed(seed, client, number))
        return subtract(of_model(model), before), leaks.confidence(model, pool)

    change, seen = after(np.arange(reviews), 0)
    rng, inside, shadows = numpy_rng(seed, "shadows", client), [], []
    for number in range(0, _SHADOWS, 2):
        order = rng.permutation(2 * reviews)
        for half, chosen in enumerate((order[:reviews], order[reviews:])):
            inside.append(np.isin(np.arange(2 * reviews), chosen))
            shadows.append(after(np.sort(chosen), 1 + number + half)[1])
    touched = leaks.touched(change["embedding.weight"])
    return {
        "words": leaks.touched_share(pool, touched),
        "loss": seen,
        "lira": leaks.likelihood_ratio(seen, np.array(shadows), np.array(inside)),
    }


_SHADOWS = 16

_KINDS = [("lstm", "last"), ("lstm", "mean"), ("gru", "last"), ("rnn", "last")]
LEAKS_SENTENCES = Study(
    "leaks_sentences",
    tuple({"seed": s, "cell": c, "pooling": p} for c, p in _KINDS for s in range(3)),
    measure_sentences,
)
LEAKS_MATCHING = Study(
    "leaks_matching", grid(seed=range(3), round=(0, 10), longest=[20]), measure_matching
)
LEAKS_WORDS = Study(
    "leaks_words",
    grid(seed=range(3), reviews=(12, 600), optimizer=("adam", "sgd"), epochs=(1, 5)),
    measure_words,
)
LEAKS_CLOCK = Study("leaks_clock", grid(seed=range(3)), measure_clock)
LEAKS_MEMBERSHIP = Study(
    "leaks_membership",
    tuple(
        {"seed": seed, "reviews": reviews, "clients": clients}
        for reviews, clients in ((12, 40), (60, 10), (600, 2))
        for seed in range(3)
    ),
    measure_membership,
)
