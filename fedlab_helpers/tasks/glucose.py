"""Glucose in half an hour, of people who wear a sensor: Hall et al. 2018.

The readings, one every five minutes in mg/dL, are those of doi:10.1371/journal.pbio.2005143; the
data card says where they come from.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.series import SeriesRNN, windows

AHEAD = 6  # readings of five minutes
UNIT = 40.0  # mg/dL that are 1 to the model
CHANGE = Numbers(scale=UNIT, delta=1.0, each_step=True)
FILLED = 2  # missing readings in a row that the last one stands in for
_WINDOW = {"warm_up": 24, "asked": 24}  # two hours each
_SHARES = (0.6, 0.75)  # of a person's readings, in time: to learn from; and to choose by


def read_glucose(path: str | Path) -> dict[str, pd.Series]:
    """Return the readings of each person, by name: mg/dL on a grid of five minutes, NaN where there
    is none. Raises ValueError, with the columns, for a table without id, time and gl, or with
    readings that are no numbers, as a sensor's "Low"."""
    table = pd.read_csv(path)
    missing = {"id", "time", "gl"} - {*table}
    require(not missing, f"{path}: columns", [*table], "id, time and gl")
    odd = table["gl"][pd.to_numeric(table["gl"], errors="coerce").isna() & table["gl"].notna()]
    require(odd.empty, f"{path}: gl", [*odd[:3]], "numbers, or nothing, in mg/dL")
    table["time"] = pd.to_datetime(table["time"]).dt.round("5min")
    people = table.groupby(["id", "time"])["gl"].mean()
    return {str(who): own.droplevel("id").asfreq("5min") for who, own in people.groupby("id")}


def steps(readings: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return what is seen at each reading, (T, 4), and by how much glucose changes until `AHEAD`
    readings later, (T,), in `UNIT`.

    Seen are the level, the change since the last reading, and the time of day as two numbers. A gap
    of up to `FILLED` readings is filled with the last one before it: nothing of what comes later is
    seen. A change is asked where it leads to a reading that was taken.
    """
    filled = readings.ffill(limit=FILLED)
    clock = readings.index
    day = 2 * np.pi * (clock.hour * 60 + clock.minute).to_numpy() / 1440
    level, change = (filled - 120) / UNIT, filled.diff() / 10
    seen = np.stack([level, change, np.sin(day), np.cos(day)], 1)
    later = readings.shift(-AHEAD)
    return seen, ((later - filled) / UNIT).to_numpy()


def glucose_owner(name: str, readings: pd.Series, days: int | None = None) -> Owner:
    """Return a person's windows, earlier ones to learn from, later ones to be tested on.

    Args:
        name: of the person.
        readings: as `read_glucose` returns them.
        days: only the first so many days are there to learn and to choose from, the last fifth of
            their windows to choose by; the test stays the same. None: all that come before it.

    Raises:
        ValueError: `days` is no integer of at least 1, or there are too few readings for a part.
    """
    require_count(days=1 if days is None else days)
    seen, wanted = steps(readings)
    there = np.flatnonzero(readings.notna())
    require(len(there) > 0, f"{name}: readings", 0, "at least one")
    first, second = (there[int(len(there) * share)] for share in _SHARES)

    def part(begin: int, end: int):
        own = wanted[:end].copy()
        own[end - AHEAD :] = np.nan  # leads into the next part
        begin = max(0, begin - _WINDOW["warm_up"])  # what came before may be seen
        return windows(seen[begin:end], own[begin:], CHANGE, **_WINDOW)

    test = part(second, len(wanted))
    if days is None:
        return Owner(name, part(0, first), part(first, second), test)
    early = part(0, min(first, days * 288))
    cut = len(early) - max(1, round(len(early) / 5)) if len(early) else 0
    train, validation = early.subset(range(cut)), early.subset(range(cut, len(early)))
    train.targets[-1:, -AHEAD:] = torch.nan  # leads into what is chosen by
    return Owner(name, train, validation, test)


def glucose(path: str | Path | None = None, days: int | None = None) -> list[Owner]:
    """Return each person of the table as an owner; `path` None: the table is fetched. `days` as in
    `glucose_owner`."""
    path = path or _fetched()
    return [glucose_owner(who, own, days) for who, own in read_glucose(path).items()]


def examples(path: str | Path) -> Examples:
    """Return what one person's table holds to learn from, as a node of a network asks for it:
    `network.Job(…, task="fedlab_helpers.tasks:glucose")`. Raises ValueError for several people."""
    people = read_glucose(path)
    require(len(people) == 1, f"{path}: id", [*people][:3], "one: a node has one person's readings")
    return glucose_owner(*people.popitem()).train


def _fetched() -> Path:
    from fedlab_helpers.tasks.public_data import fetch

    return fetch("glucose")[0]


def new_model(seed: int = 0) -> SeriesRNN:
    """Return the model of the course for this task: a GRU of 32 units."""
    return SeriesRNN(4, 32, each_step=True, seed=seed)
