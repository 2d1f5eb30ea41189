"""What a wind turbine should give in this wind: La Haute Borne, ENGIE, 2014 and 2015.

Averages of ten minutes of four turbines of 2,050 kW; the data card says where they come from. The
power that is expected is what monitoring compares with: a turbine that falls short is looked at.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.series import SeriesRNN, windows

COLUMNS = {"P_avg": "power", "Ws_avg": "wind", "Va_avg": "vane", "Ot_avg": "outside",
           "Wa_avg": "direction"}  # fmt: skip
_NAMES = ("Wind_turbine_name", "Date_time")
UNIT = 400.0  # kW that are 1 to the model
POWER = Numbers(scale=UNIT, delta=1.0, each_step=True)
FEATURES = 6
STANDS = 4.5  # m/s from which a turbine without power stands still, whatever the reason
BROKEN = -50.0  # °C: a sensor that reads -273 reads nothing
VALIDATION, TEST = pd.Timestamp("2015-01-01"), pd.Timestamp("2015-04-01")
_WINDOW = {"warm_up": 6, "asked": 66}  # an hour, eleven hours
EVERY = 4  # windows: two days' readings are alike


def read_turbines(path: str | Path) -> dict[str, pd.DataFrame]:
    """Return the readings of each turbine, by name, on a grid of ten minutes, NaN where missing.

    Columns: power in kW, wind in m/s, vane (the wind against the nacelle) and direction in degrees,
    outside in °C. Times have their offset, and are counted in UTC: no hour is there twice, nor
    missing. Raises ValueError for a table with other columns, or with values that are no numbers.
    """
    table = pd.read_csv(path, usecols=lambda name: name in {*COLUMNS, *_NAMES})
    missing = sorted({*COLUMNS, *_NAMES} - {*table})
    require(not missing, f"{path}: columns", [*table], f"also {missing}")
    times = pd.to_datetime(table["Date_time"], utc=True).dt.tz_localize(None)
    table["time"] = times.dt.round("10min")
    odd = [n for n in COLUMNS if not pd.api.types.is_numeric_dtype(table[n])]
    require(not odd, f"{path}: columns", odd, "numbers in all but name and time")
    parks = {}
    for name, own in table.groupby("Wind_turbine_name"):
        own = own.drop_duplicates("time").set_index("time").sort_index().asfreq("10min")
        own = own[[*COLUMNS]].rename(columns=COLUMNS).astype(np.float32)
        own.loc[own["outside"] < BROKEN, "outside"] = np.nan
        parks[str(name)] = own
    return parks


def steps(readings: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return what is seen at each step, (T, 6), and the power, (T,), in `UNIT`.

    Seen are the wind, its third power, the vane, the temperature, and the direction as two numbers.
    Nothing is asked where one of them is missing, or where the turbine stands still in enough wind:
    this is how it should run, not how often it does.
    """
    wind, turn = readings["wind"], np.deg2rad(readings["direction"])
    seen = np.stack(
        [
            wind / 3 - 2,
            (wind / 8) ** 3 - 0.5,
            readings["vane"].clip(-30, 30) / 10,
            readings["outside"] / 10 - 1,
            np.sin(turn),
            np.cos(turn),
        ],
        1,
    )
    power = readings["power"].to_numpy() / UNIT
    still = (readings["power"] <= 0) & (wind >= STANDS)
    wanted = np.where(still | np.isnan(seen).any(1), np.nan, power)
    return np.nan_to_num(seen), wanted


def turbine_owner(name: str, readings: pd.DataFrame, days: int | None = None) -> Owner:
    """Return a turbine's windows: those of 2014, of the first quarter of 2015, and of the rest.

    Args:
        name: of the turbine.
        readings: as `read_turbines` returns them.
        days: only the last so many days of 2014 are there, all their windows, the last quarter of
            them to choose by; the test stays the same. None: the whole year.

    Raises:
        ValueError: `days` is no integer of at least 1, or there are no readings for a part.
    """
    require_count(days=1 if days is None else days)
    seen, wanted = steps(readings)
    edges = [0, *readings.index.searchsorted([VALIDATION, TEST]), len(wanted)]

    def part(begin: int, end: int, every: int = EVERY):
        begin = max(0, begin - _WINDOW["warm_up"])
        return windows(seen[begin:end], wanted[begin:end], POWER, **_WINDOW, every=every)

    parts = [part(*edge) for edge in itertools.pairwise(edges)]
    if days is not None:
        few = part(edges[1] - days * 144, edges[1], every=1)
        cut = len(few) - max(1, len(few) // 4) if len(few) else 0
        parts[:2] = few.subset(range(cut)), few.subset(range(cut, len(few)))
    return Owner(name, *parts)


def turbines(
    path: str | Path | Mapping[str, pd.DataFrame] | None = None, days: int | None = None
) -> list[Owner]:
    """Return each turbine of the table as an owner; `path` None: the table is fetched; or what
    `read_turbines` returned. `days` as in `turbine_owner`."""
    parks = path if isinstance(path, Mapping) else read_turbines(path or _fetched())
    return [turbine_owner(name, own, days) for name, own in parks.items()]


def _fetched() -> Path:
    from fedlab_helpers.tasks.public_data import fetch

    return fetch("turbines")[0]


def new_model(seed: int = 0) -> SeriesRNN:
    """Return the model of the course for this task: a GRU of 32 units."""
    return SeriesRNN(FEATURES, 32, each_step=True, seed=seed)
