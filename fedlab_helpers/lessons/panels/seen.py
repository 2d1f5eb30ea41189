"""What was measured over seeds, in a sentence: the studies' tables, beside a reader's one run."""

from dataclasses import dataclass
from functools import cache

import pandas as pd

from fedlab_helpers.lessons.words import say
from fedlab_helpers.studies import results

_LAST = 5  # rounds at the end of a run that count
TESTED = 3473  # test reviews of the studies


@dataclass(frozen=True)
class Seen:
    """What was measured, in sentences, and after how many rounds."""

    text: str
    rounds: int


@cache
def _table(*names: str) -> pd.DataFrame:
    found = [pd.read_csv(results.RESULTS / f"{name}.csv", keep_default_na=False) for name in names]
    return pd.concat(found, ignore_index=True)


def _of(names: tuple[str, ...], **settings: object) -> pd.DataFrame:
    table = _table(*names)
    for name, value in settings.items():
        table = table[table[name] == value]
    if table.empty:
        raise ValueError(f"studies {names}: got no row of {settings}")
    return table


def _late(table: pd.DataFrame, value: str = "accuracy") -> pd.Series:
    """Return the mean of the last rounds, by seed."""
    late = table[table["round"] > table["rounds"].max() - _LAST]
    return late.groupby("seed")[value].mean()


def _said(key: str, points: pd.Series, study: str, **told: object) -> str:
    """Return a sentence with the mean over seeds, and the least and the largest of them."""
    points = points.dropna()
    numbers = {"points": points.mean(), "low": points.min(), "high": points.max()}
    return say(key, **numbers, seeds=len(points), study=study, **told)


def strategies(one: str, other: str, partition: str) -> Seen:
    """Say how far one strategy ends above another, each with its tuned rate."""
    return _ahead(("aggregation", "aggregation_again"), one, other, partition=partition)


def curves(*names: str, partition: str) -> dict[str, pd.DataFrame]:
    """Return the accuracy after each round, mean over seeds, by what a strategy is called."""
    return {
        say(name): _of(("aggregation", "aggregation_again"), partition=partition, strategy=name)
        .groupby("round", as_index=False)["accuracy"]
        .mean()
        for name in names
    }


def attacked(one: str, other: str, hostile: float, attack: str) -> Seen:
    """Say how far one strategy ends above another where clients lie."""
    return _ahead(("robustness",), one, other, hostile=hostile, attack=attack)


def _ahead(names: tuple[str, ...], one: str, other: str, **rows: object) -> Seen:
    measured = [_of(names, strategy=each, **rows) for each in (one, other)]
    first, second = map(_late, measured)
    rounds = int(measured[0]["rounds"].max())
    told = {"one": say(one), "other": say(other), "rounds": rounds}
    return Seen(_said("seen_ahead", 100 * (first - second), names[0], **told), rounds)


def epochs(many: int, few: int) -> Seen:
    """Say how many points more local epochs bring after equally many rounds."""
    rows = {"partition": "iid", "strategy": "fedavg", "batch_size": 32, "cohort": 10, "rounds": 15}
    early = [
        _of(("local_training",), epochs=count, round=5, **rows).set_index("seed")["accuracy"]
        for count in (many, few)
    ]
    points = 100 * (early[0] - early[1])
    return Seen(_said("seen_epochs", points, "local_training", many=many, few=few, round=5), 5)


def codec(*names: str) -> Seen:
    """Say what codecs cost against the lossless run, and how many times fewer bytes they take."""
    parts, rounds = [], 0
    for name in names:
        rows = _of(("compression",), partition="iid", downlink="whole", codec=name)
        late = rows[rows["round"] > rows["round"].max() - _LAST]
        lost = 100 * (late["lost"] - late["gained"]).groupby(late["seed"]).mean() / TESTED
        factor = (late["dense_bytes_up"] / late["bytes_up"]).mean()
        rounds = int(rows["round"].max())
        told = {"codec": _called(name), "factor": factor, "rounds": rounds}
        parts.append(_said("seen_codec", lost, "compression", **told))
    return Seen(" ".join(parts), rounds)


def _called(codec: str) -> str:
    """Return the name of a codec of the study, without the study's short form."""
    return codec.replace("EF", say("feedback"))


def frontier(round: int = 10) -> list[dict[str, object]]:
    """Return where each codec of the study stood after a round, clients at random: its name, times
    fewer bytes, validation accuracy, mean over seeds, and whether nothing was lost."""
    rows = _of(("compression",), partition="iid", downlink="whole", round=round)
    rows = rows.assign(factor=rows["dense_bytes_up"] / rows["bytes_up"])
    rows = rows.assign(total_megabytes=(rows["bytes_up"] + rows["bytes_down"]) / 1e6)
    columns = ["factor", "total_megabytes", "round", "validation_accuracy"]
    means = rows.groupby("codec")[columns].mean()
    marks = means.rename(columns={"validation_accuracy": "value"}).to_dict("index")
    return [
        {"name": _called(name), "lossless": name == "touched rows", **values}
        for name, values in marks.items()
    ]


def personal(*methods: str, partition: str) -> Seen:
    """Say what methods gain over the shared model."""
    parts, rounds = [], 0
    for method in methods:
        rows = _of(("personalization",), partition=partition, method=method, moment="last")
        points = 100 * rows.set_index("seed")["gain"]
        below = 20 * rows["below"].mean()
        rounds = int(rows["rounds"].max())
        told = {"method": say(method), "below": below, "rounds": rounds}
        parts.append(_said("seen_personal", points, "personalization", **told))
    return Seen(" ".join(parts), rounds)


def clients(method: str, partition: str) -> tuple[list[float], list[float], list[str], str]:
    """Return what `plots.client_bars` draws of a run of the study."""
    rows = _of(("personalization",), partition=partition, method=method, moment="last", seed=0)
    own, gains = (
        [float(value) for value in rows.iloc[0][name].split()]
        for name in ("clients_accuracy", "clients_gain")
    )
    shared = [value - gain for value, gain in zip(own, gains, strict=True)]
    told = say("study_run", method=say(method), partition=say(partition), study="personalization")
    return shared, own, [""] * len(own), told
