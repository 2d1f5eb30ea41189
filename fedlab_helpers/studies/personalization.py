"""A model for each client: methods by kinds of difference, on every client's own test."""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.personal.federation import Federation, Snapshot, usual_plan
from fedlab_helpers.personal.members import PARTITIONS, Member, deal
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, task
from fedlab_helpers.tasks.reviews import conventions

ROUNDS, TUNING_ROUNDS, TUNING_SEED = 20, 12, 100
TUNED_ON = ("by_domain", "strictness")
# A second pair of conventions is there for one question: what if leaning cannot help?
SECOND_PAIR = ("shared", "leaning", "tune", "fedper", "fedrep", "ifca")
LABELLED = (0, 8, 32, 128)  # reviews of a newcomer

# By `best_numbers` from the table of `personalization_rates`: a number for each of `TUNED_ON`.
_CHOSEN = {
    "alone": (0.02, 0.02),
    "alone_mixed": (0.02, 0.01),
    "tune_fixed": (5.0, 5.0),
    "tune": (0.005, 0.01),
    "tune_pulled": (1.0, 1.0),
    "tune_head": (0.1, 0.1),
    "tune_recurrent": (0.005, 0.01),
    "tune_embedding": (0.01, 0.005),
    "ditto": (10.0, 1.0),
    "apfl": (0.1, 0.75),
    "per_fedavg": (0.3, 0.03),
    "reptile": (1.0, 1.0),
    "ifca": (4.0, 2.0),
    "ifca_mixed": (3.0, 2.0),
}
CHOSEN = {
    kind: {method: numbers[place] for method, numbers in _CHOSEN.items()}
    for place, kind in enumerate(TUNED_ON)
}
# Where no number was tried, those are used that were chosen on the partition most like it.
LIKE = {"domain_dirichlet": "by_domain", "dirichlet": "by_domain", "two_desks": "strictness"}
# The other start of IFCA is measured with as many models, where clients have groups to be found.
ALIKE, GROUPED = {"ifca_random": "ifca"}, ("by_domain", "strictness")


def number_of(kind: str, method: str) -> float | None:
    """Return the number that a method has on a partition; None: it needs none."""
    return CHOSEN[LIKE.get(kind, kind)].get(ALIKE.get(method, method))


def methods_on(kind: str) -> tuple[str, ...]:
    """Return the methods that are compared on a partition."""
    if kind == "two_desks":
        return SECOND_PAIR
    return tuple(name for name in METHODS if name not in ALIKE or kind in GROUPED)


@cache
def dealt(kind: str, seed: int) -> tuple[list[Member], list[Member]]:
    """Return the clients and the newcomers of one deal."""
    return deal(task(), kind, seed)


@lru_cache(1)
def federation_of(kind: str, seed: int, rounds: int) -> Federation:
    """Return the federation of one deal; what its clients train together is trained once."""
    return Federation(dealt(kind, seed)[0], len(task().vocab), usual_plan(rounds, seed))


def snapshots_of(settings: Settings) -> tuple[Federation, Iterator[Snapshot]]:
    """Return the federation that the settings name, and what the method makes of its clients."""
    federation = federation_of(settings["partition"], settings["seed"], settings["rounds"])
    return federation, METHODS[settings["method"]].snapshots(federation, settings["number"] or 0.0)


def measure_try(settings: Settings) -> list[Row]:
    """Return the clients' validation accuracy at each snapshot; no test review is looked at."""
    federation, snapshots = snapshots_of(settings)
    return [
        {"round": snapshot.round}
        | study.rounded(validation_accuracy=federation.validation_score(snapshot.answer))
        for snapshot in snapshots
    ]


def measure_method(settings: Settings) -> list[Row]:
    """Return two rows, of the last round and of that which is best by validation."""
    federation, snapshots = snapshots_of(settings)
    best, highest, last = None, -1.0, None
    for snapshot in snapshots:
        accuracy = federation.validation_score(snapshot.answer)
        if accuracy > highest:
            best, highest = snapshot, accuracy
        last = snapshot, accuracy
    return [
        {"moment": name, "validation_accuracy": round(accuracy, 5)}
        | _tested(settings, federation, snapshot, at)
        | _newcomers(settings, snapshot, () if name == "best" else LABELLED)
        for name, snapshot, accuracy, at in (
            ("last", *last, federation.plan.rounds),
            ("best", best, highest, federation.best_shared_round),
        )
    ]


@lru_cache(4)
def shared_right(kind: str, seed: int, rounds: int, at: int) -> list[np.ndarray]:
    """Return which answers of each client's exam the shared model gets right after a round."""
    federation = federation_of(kind, seed, rounds)
    answer = federation.answer_of(federation.shared[at][0])
    return [m.test.right(answer(m.test.data)) for m in federation.members]


def _tested(settings: Settings, federation: Federation, snapshot: Snapshot, at: int) -> Row:
    """Return how the clients do, and how against the shared model after round `at`.

    "lost" and "gained" are the shares of clients that are worse and better off by more than two
    standard errors of the paired difference, over reviews: these weights against those, not one
    method against another, and 2.3% of either are expected by chance. "below" is the share of
    those that are worse off at all. The balanced accuracy is that of clients with both classes.
    """
    tests = [member.test for member in federation.members]
    shared = shared_right(settings["partition"], settings["seed"], settings["rounds"], at)
    right = [test.right(snapshot.answer(k)(test.data)) for k, test in enumerate(tests)]
    pairs = list(zip(tests, right, shared, strict=True))
    own = np.array([test.accuracy(mine) for test, mine, _ in pairs])
    gain = own - np.array([test.accuracy(common) for test, _, common in pairs])
    doubt = 2 * np.array(
        [test.standard_error(mine.astype(float) - common) for test, mine, common in pairs]
    )
    figures = study.rounded(
        accuracy=own.mean(),
        gain=gain.mean(),
        balanced_accuracy=np.nanmean([test.balanced_accuracy(mine) for test, mine, _ in pairs]),
        majority=np.mean([test.majority for test in tests]),
        p10_client=np.quantile(own, 0.1),
        worst_client=own.min(),
        below=np.mean(gain < 0),
        lost=np.mean(gain < -doubt),
        gained=np.mean(gain > doubt),
    )
    return {
        "round": snapshot.round,
        **figures,
        "found_groups": _found(settings, federation.members, snapshot),
        "bytes_up": snapshot.bytes_up,
        "total_bytes": snapshot.total_bytes,
        "clients_accuracy": " ".join(f"{value:.4f}" for value in own),
        "clients_gain": " ".join(f"{value:.4f}" for value in gain),
    }


def _found(settings: Settings, members: Sequence[Member], snapshot: Snapshot) -> float | str:
    """Return how well a method's groups agree with those that the deal made, if it made any: the
    adjusted Rand index, 1 for the same groups and 0 for what chance gives (Hubert and Arabie 1985,
    doi:10.1007/BF01908075)."""
    if not snapshot.groups or settings["partition"] not in ("by_domain", *conventions.PAIRS):
        return ""
    truth = [f"{m.domain} {m.convention}" for m in members]
    return round(adjusted_rand_score(truth, snapshot.groups), 3)


def _newcomers(settings: Settings, snapshot: Snapshot, asked: Sequence[int]) -> Row:
    """Return the mean accuracy of clients that come later, by how many reviews they label; nothing
    where that is not asked, or where not all of them have as many to label."""
    row: Row = {f"newcomers_{labelled}": "" for labelled in LABELLED}
    newcomers = dealt(settings["partition"], settings["seed"])[1]
    if min(len(member.train) for member in newcomers) < max(LABELLED):
        return row
    for labelled in asked:
        scores = []
        for place, member in enumerate(newcomers):
            order = numpy_rng(settings["seed"], "newcomer", place).permutation(len(member.train))
            given = member.train.subset(np.sort(order[:labelled])) if labelled else None
            answer = snapshot.newcomer(given)
            scores.append(member.test.accuracy(member.test.right(answer(member.test.data))))
        row[f"newcomers_{labelled}"] = round(float(np.mean(scores)), 5)
    return row


def _run(*values: object) -> Settings:
    return dict(zip(("seed", "partition", "rounds", "method", "number"), values, strict=True))


PERSONALIZATION_RATES = Study(
    "personalization_rates",
    tuple(
        _run(TUNING_SEED, kind, TUNING_ROUNDS, name, number)
        for kind in TUNED_ON
        for name, method in METHODS.items()
        if name not in ALIKE
        for number in method.tries
    ),
    measure_try,
)


def best_numbers(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return, for each partition and method, the number with the highest validation accuracy
    after the last round, from the table of `personalization_rates`; of equals, the first."""
    last = table[table["round"] == TUNING_ROUNDS].assign(merit=table["validation_accuracy"])
    best: dict[str, dict[str, float]] = {}
    for (kind, method), (number,) in study.best(last, ["partition", "method"], ["number"]).items():
        best.setdefault(kind, {})[method] = number
    return best


PERSONALIZATION = Study(
    "personalization",
    tuple(
        _run(seed, kind, ROUNDS, name, number_of(kind, name))
        for kind in PARTITIONS
        for seed in range(3)
        for name in methods_on(kind)
    ),
    measure_method,
)
