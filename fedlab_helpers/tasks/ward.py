"""Low blood pressure in the next four hours, in six intensive care units: the MIMIC-IV demo.

Vital signs of a hundred patients, hour by hour, in the CLIF format; the data card says where they
come from. Reading it needs pyarrow: `pip install -e ".[ward]"`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require
from fedlab_helpers.tasks.objectives import Risk
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.series import SeriesRNN

VITALS = {  # what is plausible, and by which mean and spread it is scaled
    "heart_rate": ((20, 250), 85, 18),
    "sbp": ((40, 300), 120, 22),
    "dbp": ((15, 200), 62, 14),
    "map": ((20, 200), 80, 15),
    "respiratory_rate": ((2, 70), 19, 5.5),
    "spo2": ((40, 100), 97, 2.5),
    "temp_c": ((30, 43), 37, 0.7),
}
LOW = 65.0  # mmHg of mean arterial pressure
AHEAD, HOURS = 4, 72  # asked about; longest piece of a stay
FEATURES = 14
LOWERED = Risk(each_step=True)
_SHARES = (0.55, 0.7)  # of the patients: to learn from; and to choose by
_LEAST = 8  # hours of a stay
_COLUMNS = {
    "vitals": ("hospitalization_id", "recorded_dttm", "vital_category", "vital_value"),
    "adt": ("hospitalization_id", "in_dttm", "out_dttm", "location_name", "location_category"),
    "hospitalization": ("hospitalization_id", "patient_id"),
}


@dataclass(frozen=True, eq=False)
class Stay:
    """A patient's time in one unit: vital signs by the hour, (T, 7), NaN where none was taken."""

    patient: str
    unit: str
    vitals: np.ndarray


def read_ward(folder: str | Path) -> list[Stay]:
    """Return the stays of at least eight hours in units for intensive care.

    Args:
        folder: with clif_vitals, clif_adt and clif_hospitalization, as `.parquet`.

    Raises:
        ValueError: pyarrow is not installed, or a table has other columns.
    """
    vitals, moves, visits = (_read(Path(folder), name) for name in _COLUMNS)
    names = [*VITALS]
    vitals = vitals[vitals["vital_category"].isin(names)]
    low, high = (
        vitals["vital_category"].astype(str).map({n: VITALS[n][0][i] for n in names}).astype(float)
        for i in (0, 1)
    )
    vitals = vitals[vitals["vital_value"].between(low, high)].copy()
    vitals["hour"] = vitals["recorded_dttm"].dt.floor("h")
    index = ["hospitalization_id", "hour"]
    hours = vitals.pivot_table("vital_value", index, "vital_category", "median")
    hours = hours.reindex(columns=names)
    known = {*hours.index.get_level_values(0)}
    patient = dict(zip(visits[index[0]], visits["patient_id"], strict=True))
    stays = []
    for move in moves[moves["location_category"] == "icu"].itertuples():
        if (visit := move.hospitalization_id) in known:
            require(visit in patient, "adt: hospitalization_id", visit, "one with a patient")
            own = hours.loc[visit]
            begun = own.index >= move.in_dttm.floor("h")
            own = own[begun & (own.index < move.out_dttm)].asfreq("h")
            if len(own) >= _LEAST:
                who, unit = str(patient[visit]), str(move.location_name)
                stays.append(Stay(who, unit, own.to_numpy(np.float32)))
    return stays


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"clif_{name}.parquet"
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        wanted = 'pyarrow, which reads these files: pip install -e ".[ward]"'
        raise ValueError(f"ward: expected {wanted}") from error
    missing = [column for column in _COLUMNS[name] if column not in table]
    require(not missing, f"{path}: columns", [*table], f"also {missing}")
    return table


def steps(stay: Stay) -> tuple[np.ndarray, np.ndarray]:
    """Return what is seen at each hour, (T, 14), and whether the pressure falls below `LOW` within
    the next four, (T,), NaN where it is not asked.

    Seen are the last value taken of each vital sign, scaled, for the first six whether it is an
    older one, and how long the stay is. It is asked while the pressure is not low, if at least two
    of the four hours were measured.
    """
    means, spreads = (np.array([VITALS[n][i] for n in VITALS], np.float32) for i in (1, 2))
    missing = np.isnan(stay.vitals)
    last = pd.DataFrame(stay.vitals).ffill().fillna(pd.Series(means)).to_numpy()
    since = np.log1p(np.arange(len(last)))[:, None] / 4
    seen = np.concatenate([(last - means) / spreads, missing[:, :6], since], 1)
    pressure = stay.vitals[:, [*VITALS].index("map")]
    wanted = np.full(len(pressure), np.nan)
    for hour in range(len(pressure) - AHEAD):
        later = pressure[hour + 1 : hour + 1 + AHEAD]
        if pressure[hour] >= LOW and (~np.isnan(later)).sum() >= 2:
            wanted[hour] = np.nanmin(later) < LOW
    return seen, wanted


def pieces(stays: Sequence[Stay]) -> Examples:
    """Return stays in pieces of at most `HOURS`, those of which something is asked, padded on the
    right: inputs (N, 72, 14) and hours (N,), targets (N, 72)."""
    cut = []
    for stay in stays:
        seen, wanted = steps(stay)
        cut += [
            (seen[at : at + HOURS], wanted[at : at + HOURS]) for at in range(0, len(seen), HOURS)
        ]
    cut = [(seen, wanted) for seen, wanted in cut if not np.isnan(wanted).all()]
    x = np.zeros((len(cut), HOURS, FEATURES), np.float32)
    y = np.full((len(cut), HOURS), np.nan, np.float32)
    for row, (seen, wanted) in enumerate(cut):
        x[row, : len(seen)], y[row, : len(seen)] = seen, wanted
    hours = torch.tensor([len(seen) for seen, _ in cut], dtype=torch.int64)
    return Examples((torch.from_numpy(x), hours), torch.from_numpy(y), LOWERED, padded=True)


def ward(stays: str | Path | Sequence[Stay] | None = None, seed: int = 0) -> list[Owner]:
    """Return each unit as an owner; no patient is in two of its parts, in whatever unit.

    Args:
        stays: a folder, as `read_ward` takes it, or what that returned; None: it is fetched.
        seed: decides which patients are learnt from, chosen by, and tested.
    """
    if stays is None or isinstance(stays, str | Path):
        stays = read_ward(stays or _fetched())
    patients = sorted({stay.patient for stay in stays})
    patients = [patients[i] for i in numpy_rng(seed, "ward").permutation(len(patients))]
    first, second = (int(len(patients) * share) for share in _SHARES)
    parts = {p: "train" if i < first else "validation" if i < second else "test"
             for i, p in enumerate(patients)}  # fmt: skip
    owners = []
    for unit in sorted({stay.unit for stay in stays}):
        mine = {
            name: pieces([s for s in stays if s.unit == unit and parts[s.patient] == name])
            for name in ("train", "validation", "test")
        }
        if all(part.asked for part in mine.values()):
            owners.append(Owner(unit, **mine))
    require(len(owners) > 1, "stays: units with patients in each part", len(owners), "two or more")
    return owners


def _fetched() -> Path:
    from fedlab_helpers.tasks.public_data import fetch

    return fetch("ward")[0].parent


def new_model(seed: int = 0) -> SeriesRNN:
    """Return the model of the course for this task: a GRU of 16 units."""
    return SeriesRNN(FEATURES, 16, each_step=True, dropout=0.3, seed=seed)
