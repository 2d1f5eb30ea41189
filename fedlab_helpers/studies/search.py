"""Look for the best design of a brief: `python -m fedlab_helpers.studies search keyboard`.

Optuna proposes (Akiba et al. 2019, arXiv:1907.10902; by its tree-structured Parzen estimator, with
budgets as constraints), and every design is run once, with the seed of tuning, of which no score
is reported. The table is all there is to keep: the same command goes on from it, after Ctrl-C too.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedlab_helpers.compression.registry import KEEPS, LOSSLESS, feeds_back
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.strategies.dp_sgd import DpSgd
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.studies import study
from fedlab_helpers.studies.briefs import BRIEFS, Brief, brief_of, owners_of
from fedlab_helpers.studies.design import (
    DEVICE_FORMS,
    SUMS,
    Design,
    measure,
    noise_within,
    problem,
)
from fedlab_helpers.studies.references import references
from fedlab_helpers.studies.results import RESULTS, Row, read_own, versions, write
from fedlab_helpers.tasks.layers import LAYERS

if TYPE_CHECKING:
    import optuna

SEED = 100
MINUTES = 60  # of CPU time, at most
_FAR = 10.0  # over a budget of which nothing is kept: an epsilon without a bound
_RATES = {"adam": (2e-3, 5e-2), "sgd": (0.2, 10.0)}
_TUNING_RATES = {"adam": (5e-4, 2e-2), "sgd": (0.02, 4.0)}
_CHOICES = {
    "cell": LAYERS,
    "size": (8, 12, 16, 24, 32, 48),
    "optimizer": _RATES,
    "batch": (8, 16, 32),
    "share": (0.1, 0.2, 0.5, 1.0),  # of all clients, in a cohort
    "pruned": (0.0, 0.3, 0.6),
    "device": DEVICE_FORMS,
}
_COUNTS = {"epochs": (1, 4), "rounds": (6, 20), "tuning": (0, 6)}
_NOISE = "noise_multiplier"
_SHARES = ("topk", "randomk", "sketch")  # of which the amount is a share


def promised(brief: Brief) -> list[str]:
    """Return the strategies that promise an epsilon to those whom a brief protects; where nobody
    asked, those that promise none."""

    def promises(made: Strategy) -> str:
        by_client = "client" if isinstance(made.combine, PrivateMean) else ""
        return "example" if isinstance(made, DpSgd) else by_client

    return [n for n, entry in STRATEGIES.items() if promises(entry.make()) == brief.protects]


def strategies_for(brief: Brief) -> list[str]:
    """Return those of them that can be run for it: with secure sums, say."""
    fixed = {"secure": hidden(brief), "cohort": len(owners_of(brief.name, SEED))}
    return [n for n in promised(brief) if not problem(brief.name, Design(strategy=n, **fixed))]


def hidden(brief: Brief) -> bool:
    """Return whether the server may see sums only."""
    return brief.limits.get("seen") == 0


def propose(trial: "optuna.Trial", brief: Brief) -> Design:
    """Return the design of a trial; noise is what the brief's epsilon needs."""
    clients = len(owners_of(brief.name, SEED))
    one_of, number = trial.suggest_categorical, trial.suggest_float
    own = {name: one_of(name, list(values)) for name, values in _choices(brief).items()}
    own |= {name: trial.suggest_int(name, *ends) for name, ends in _COUNTS.items()}
    own["lr"] = number(f"lr_{own['optimizer']}", *_RATES[own["optimizer"]], log=True)
    if own["tuning"]:
        rates = _TUNING_RATES[own["optimizer"]]
        own["tuning_rate"] = number(f"tuning_{own['optimizer']}", *rates, log=True)
    entry = STRATEGIES[own["strategy"]]
    if entry.server_rate is not None:
        own["server_rate"] = number(
            f"server_rate_{entry.name}", *_around(entry.server_rate), log=True
        )
    own["parameters"] = {
        p.name: (trial.suggest_int if p.whole else partial(number, log=p.log))(
            f"{entry.name}_{p.name}", p.low, p.high
        )
        for p in entry.parameters
        if p.name != _NOISE or "epsilon" not in brief.limits
    }
    if not hidden(brief):
        own["keep"] = one_of("keep", [*LOSSLESS, *KEEPS])
        if own["keep"] in KEEPS:
            own["write"] = one_of("write", ["float16", "bits8", "bits4"])
            own["feedback"] = feeds_back(own["keep"], own["write"])
        if own["keep"] in _SHARES:
            own["amount"] = number("amount", 0.01, 0.5, log=True)
    cohort = max(2, round(clients * own.pop("share")))
    made = Design(**own, cohort=cohort, secure=hidden(brief))
    if "epsilon" not in brief.limits:
        return made
    noise = noise_within(brief.name, made)  # a smaller epsilon is of no use to anybody here
    return replace(made, parameters=dict(made.parameters) | {_NOISE: noise})


def proposed(design: Design, brief: Brief) -> dict[str, Any]:
    """Return what `propose` has to be told to return this design, or the nearest in its space:
    noise is what the budget needs, and what can be fed back is."""
    clients, entry = len(owners_of(brief.name, SEED)), STRATEGIES[design.strategy]
    found = {name: getattr(design, name, None) for name in (*_choices(brief), *_COUNTS)}
    found |= {"share": design.cohort / clients, f"lr_{design.optimizer}": design.lr}
    found[f"tuning_{design.optimizer}"] = design.tuning_rate
    found[f"server_rate_{entry.name}"] = design.server_rate or entry.server_rate
    found |= {f"{entry.name}_{name}": value for name, value in design.parameters}
    return found | {name: getattr(design, name) for name in ("keep", "write", "amount")}


def _choices(brief: Brief) -> dict[str, Iterable[Any]]:
    return {"strategy": strategies_for(brief), **_CHOICES}


def _around(rate: float) -> tuple[float, float]:
    return rate / 4, rate * 4


def over(brief: Brief, used: dict[str, float]) -> list[float]:
    """Return by which share of it each budget is exceeded; below 0: it is kept."""
    shares = []
    for name, limit in brief.limits.items():
        got = used[name]
        shares.append(min(_FAR, got / limit - 1) if limit else got)
    return [share if math.isfinite(share) else _FAR for share in shares]


def search(name: str, folder: Path = RESULTS, minutes: float = MINUTES, most: int = 10_000) -> Path:
    """Go on with the search for a brief, from reference designs that are in its space, until its
    table holds so many minutes of CPU time, or so many trials; return the table's path.

    Raises:
        ValueError: Optuna is not installed, or the file there holds something else.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError('search: expected Optuna: pip install -e ".[search]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    brief, path = brief_of(name), folder / f"search_{name}.csv"
    rows = read_own(path, f"search_{name}", ["trial"])
    columns = _columns(brief)
    same = not rows or list(rows[0]) == columns
    require(same, f"{path}: columns", rows and [*rows[0]], f"{columns}: move the table away")
    starts = [each for each in references(name).values() if each.strategy in strategies_for(brief)]
    starts = [each for each in starts if each.secure == hidden(brief) and each.cell != SUMS]
    options = {"multivariate": True, "n_startup_trials": len(starts)}
    sampler = optuna.samplers.TPESampler(seed=SEED + len(rows), **options)
    direction = "maximize" if brief.higher_is_better else "minimize"
    made = optuna.create_study(direction=direction, sampler=sampler)
    for row in rows:  # what was found before
        made.enqueue_trial(json.loads(row["proposed"]))
        trial = made.ask()
        same = propose(trial, brief) == Design.from_json(row["design"])
        now = "a design that this search would propose by it: move the table away to begin anew"
        require(same, f"{path}: trial", row["trial"], now)
        _tell(made, trial, brief, row)
    for design in starts[len(rows) :]:
        made.enqueue_trial(proposed(design, brief))
    with intra_op_threads(1):
        while sum(float(row["seconds"]) for row in rows) < 60 * minutes and len(rows) < most:
            trial = made.ask()
            row = _try(name, propose(trial, brief), trial)
            _tell(made, trial, brief, row)
            rows.append(row)
            write(path, rows)
            print(f"{row['trial']:>4} {row['score'] or row['refused']} {row['missed']}", flush=True)
    return path


def _columns(brief: Brief) -> list[str]:
    """Return the columns of a table, as `_try` makes them."""
    told = ["score", *brief.limits, "missed", "refused", "seconds", "design", "proposed"]
    return ["study", "trial", *told, *versions()]


def _try(name: str, design: Design, trial: "optuna.Trial") -> Row:
    """Return the row of one trial."""
    began, brief, told = time.process_time(), brief_of(name), {}
    try:
        made = measure(name, design, SEED)
        told = study.rounded(score=made.score, **{b: made.used[b] for b in brief.limits})
        told |= {"missed": " ".join(made.missed), "refused": ""}
    except (ValueError, RuntimeError, ArithmeticError) as error:  # refused, or broken down
        told = dict.fromkeys(("score", *brief.limits, "missed"), "")
        told |= {"refused": " ".join(str(error).split())[:200]}
    found = {"study": f"search_{name}", "trial": trial.number, **told}
    found["seconds"] = round(time.process_time() - began, 1)
    written = {"design": design.to_json(), "proposed": json.dumps(trial.params)}
    return found | written | versions()


def _tell(made: "optuna.Study", trial: "optuna.Trial", brief: Brief, row: Row) -> None:
    from optuna.trial import TrialState

    fine = row["score"] not in ("", None) and math.isfinite(float(row["score"]))
    used: dict[str, Any] = {n: float(row[n]) for n in brief.limits} if fine else {}
    for budget, share in zip(brief.limits, over(brief, used) if fine else (), strict=False):
        trial.set_constraint(budget, share)
    if fine:
        made.tell(trial, float(row["score"]))
    else:
        made.tell(trial, state=TrialState.FAIL)


def best(name: str, table: pd.DataFrame) -> Design:
    """Return the design with the best score of those within all budgets, in the table of a search;
    of equals, the first. Raises ValueError: none is."""
    within = table[table["missed"].isna() & table["refused"].isna()]
    require(len(within) > 0, "table: trials within all budgets", 0, "at least one")
    scores = within["score"].astype(float)
    return Design.from_json(
        within["design"][scores.idxmax() if brief_of(name).higher_is_better else scores.idxmin()]
    )


def main(arguments: Iterable[str] | None = None) -> int:
    """Search for the briefs named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fedlab_helpers.studies search")
    parser.add_argument("brief", choices=sorted(BRIEFS), nargs="+")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the tables are")
    parser.add_argument("--minutes", type=int, default=MINUTES, help="of CPU time, in all")
    chosen = parser.parse_args(arguments)
    try:
        require_count(minutes=chosen.minutes)
        chosen.folder.mkdir(parents=True, exist_ok=True)
        for name in chosen.brief:
            print(search(name, chosen.folder, chosen.minutes))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the trials that are finished.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
