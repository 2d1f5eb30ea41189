"""Owners of small series that are learnt within seconds, and readings as sensors give them."""

import numpy as np
import pandas as pd
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.owners import Owner

EACH = Numbers(scale=10.0, delta=1.0, each_step=True)
SLOPES = {"ada": 1.0, "ben": -1.0, "cem": 0.5}
PARTS = ("train", "validation", "test")


def series(count: int, slope: float, seed: int, steps: int = 5) -> Examples:
    """Return series of one number a step, and what is asked of all steps but the first: `slope`
    times that number."""
    seen = torch.randn(count, steps, 1, generator=torch.Generator().manual_seed(seed))
    wanted = slope * seen[..., 0]
    wanted[:, 0] = torch.nan
    return Examples((seen,), wanted, EACH)


def make_owners(seed: int = 0, **slopes: float) -> list[Owner]:
    """Return an owner for each of these slopes, of 12, 4 and 6 series."""
    return [
        Owner(name, *(series(n, slope, seed + 10 * k + n) for n in (12, 4, 6)))
        for k, (name, slope) in enumerate((slopes or SLOPES).items())
    ]


def glucose_readings(seed: int = 0, count: int = 800) -> pd.Series:
    """Return readings that are all different, on a grid of five minutes, in mg/dL."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2014-02-03", periods=count, freq="5min")
    level = 120 + 30 * np.sin(np.arange(count) / (30 + seed)) + rng.normal(0, 3, count)
    return pd.Series(level, times)


def turbine_columns(times: pd.DatetimeIndex, seed: int = 0) -> pd.DataFrame:
    """Return readings of a turbine at these times, all different."""
    rng = np.random.default_rng(seed)
    wind = rng.uniform(2, 12, len(times))
    columns = {
        "power": 8 * wind**2 + rng.normal(0, 5, len(times)),
        "wind": wind,
        "vane": rng.normal(0, 5, len(times)),
        "outside": rng.normal(8, 3, len(times)),
        "direction": rng.uniform(0, 360, len(times)),
    }
    return pd.DataFrame(columns, times).astype(np.float32)


def turbine_readings(seed: int = 0) -> pd.DataFrame:
    """Return readings of a turbine, every ten minutes: nine days of 2014, and the beginnings of its
    other parts."""
    begins = (("2014-12-23", 9), ("2015-01-01", 4), ("2015-04-01", 4))
    dates = [pd.date_range(day, periods=n * 144, freq="10min") for day, n in begins]
    return turbine_columns(dates[0].union(dates[1]).union(dates[2]), seed).asfreq("10min")
