"""Who will not pay next month: six months of 30,000 credit cards, Yeh and Lien 2009.

The table is that of doi:10.1016/j.eswa.2007.12.020; the data card says where it comes from. Its
owners are simulated: nobody says at which bank a customer was.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.objectives import RISK
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.series import SeriesRNN

MONTHS = ("6", "5", "4", "3", "2", "1")  # April to September 2005, as the columns count them
DEFAULT = "default-payment-next-month"
FEATURES = 16
TEST, VALIDATION = 6_000, 3_000  # customers
_KINDS = ("EDUCATION_1", "EDUCATION_2", "EDUCATION_3", "MARRIAGE_1", "MARRIAGE_2")
_LEAST = 60  # customers a bank learns from


def read_credit(path: str | Path) -> pd.DataFrame:
    """Return the table, a row each customer. Raises ValueError for one with other columns, or with
    a value missing, or with a limit that is not above 0."""
    table = pd.read_csv(path)
    wanted = {f"{kind}_AMT{month}" for kind in ("BILL", "PAY") for month in MONTHS}
    wanted |= {*_delays(), *_KINDS, "LIMIT_BAL", "AGE", "SEX", DEFAULT}
    missing = sorted(wanted - {*table})
    require(not missing, f"{path}: columns", [*table][:8], f"also {missing[:5]}")
    numbers = table[sorted(wanted)].apply(pd.to_numeric, errors="coerce")
    odd = [name for name in numbers if not np.isfinite(numbers[name]).all()]
    require(not odd, f"{path}: columns", odd[:5], "a number in each row")
    least = float(numbers["LIMIT_BAL"].min())
    require(not least <= 0, f"{path}: LIMIT_BAL", least, "limits above 0")
    return table


def _delays() -> list[str]:
    return [f"PAY_{month}" for month in (*MONTHS[:-1], "0")]


def _logarithm(money: np.ndarray) -> np.ndarray:
    return np.sign(money) * np.log1p(np.abs(money) / 1000)


def _share_paid(paid: np.ndarray, bill: np.ndarray) -> np.ndarray:
    """Return payments over the bills of the month before, (N, 6); 0 in the first month."""
    shares = np.zeros_like(paid)
    shares[:, 1:] = (paid[:, 1:] / bill[:, :-1].clip(1000)).clip(0, 2)
    return shares


def customers(table: pd.DataFrame) -> Examples:
    """Return each customer's six months, (N, 6, 16), and whether the next payment is missed, (N,).

    At each month: how late the payment is, three signs of how it was paid, the bill over the
    limit, the bill and the payment as logarithms, and what share of the bill of the month before
    was paid. Beside it, the same at each month: limit, age, sex, schooling and marriage.
    """
    limit = table["LIMIT_BAL"].to_numpy(float)
    delay = table[_delays()].to_numpy(float)
    bill, paid = (
        table[[f"{kind}_AMT{month}" for month in MONTHS]].to_numpy(float)
        for kind in ("BILL", "PAY")
    )
    months = np.stack(
        [
            delay.clip(0, 8) / 2,
            *(delay == sign for sign in (-2, -1, 0)),
            (bill / limit[:, None]).clip(-1, 2),
            _logarithm(bill) / 2 - 1,
            _logarithm(paid) - 1,
            _share_paid(paid, bill),
        ],
        2,
    )
    kinds = [table[name] for name in _KINDS]
    age = (table["AGE"] - 35) / 10
    fixed = np.stack([np.log(limit / 140_000), age, table["SEX"], *kinds], 1)
    seen = np.concatenate([months, np.repeat(fixed[:, None], len(MONTHS), 1)], 2)
    x, y = (torch.from_numpy(a.astype(np.float32)) for a in (seen, table[DEFAULT].to_numpy()))
    return Examples((x,), y, RISK)


def banks(table: pd.DataFrame, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return at which of `count` banks each customer is, (N,): the first for those with the lowest
    limits, the last for those with the highest; equal limits fall by chance."""
    require_count(count=count)
    place = np.lexsort((rng.random(len(table)), table["LIMIT_BAL"])).argsort()
    return place * count // len(table)


def credit(path: str | Path | None = None, count: int = 30, seed: int = 0) -> list[Owner]:
    """Return the banks as owners; `path` None: the table is fetched.

    Args:
        path: of the table.
        count: banks.
        seed: decides who is tested, who is chosen by, and equal limits.

    Raises:
        ValueError: a bank would have fewer than 60 customers to learn from.
    """
    table = read_credit(path or _fetched())
    data, rng = customers(table), numpy_rng(seed, "credit")
    bank, order = banks(table, count, rng), rng.permutation(len(table))
    chosen = len(order) * (TEST + VALIDATION) // 30_000
    tested = len(order) * TEST // 30_000
    parts = {"test": order[:tested], "validation": order[tested:chosen], "train": order[chosen:]}
    owners = []
    for number in range(count):
        mine = {name: np.sort(part[bank[part] == number]) for name, part in parts.items()}
        fewest = len(mine["train"])
        require(fewest >= _LEAST, f"count: bank {number} has", fewest, f"{_LEAST} customers")
        own = {name: data.subset(part) for name, part in mine.items()}
        owners.append(Owner(f"bank {number}", **own))
    return owners


def _fetched() -> Path:
    from fedlab_helpers.tasks.public_data import fetch

    return fetch("credit")[0]


def new_model(seed: int = 0) -> SeriesRNN:
    """Return the model of the course for this task: a GRU of 24 units over the months."""
    return SeriesRNN(FEATURES, 24, dropout=0.1, seed=seed)
