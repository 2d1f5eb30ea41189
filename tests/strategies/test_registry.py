"""The registry: tuned defaults in one place, refusals by name, and a strategy of a reader's own."""

import inspect
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from notebook_checks import ROOT

import fedlab_helpers
from fedlab_helpers import strategies
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.strategy import Add, Mean, Strategy
from fedlab_helpers.network.__main__ import main
from fedlab_helpers.strategies import STRATEGIES, make, registered
from fedlab_helpers.strategies.drift import FedProx
from fedlab_helpers.strategies.registry import is_linear
from fedlab_helpers.strategies.robust import Clipped, Krum

PAGE = (ROOT / "book" / "package.md").read_text("utf-8")


def test_what_is_not_given_is_as_it_was_tuned():
    assert make("fedprox") == strategies.fedprox() == FedProx(mu=1e-4)
    assert make("fedprox", mu=0.5) == strategies.fedprox(0.5)
    assert make("fedavgm") == strategies.fedavgm(1.0, 0.5)
    assert make("fedadam", server_rate=0.5) == strategies.fedadam(0.5)
    assert make("fedavg", server_rate=2) == Strategy(Mean(), Add(2))
    assert make("qfedavg", lr=0.5) == strategies.qfedavg(0.1, 0.5)
    assert make("krum", f=1.0).combine == Krum(1)  # as a command line gives it


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_entry_says_what_its_strategy_is(name):
    entry, made = STRATEGIES[name], make(name)
    assert getattr(strategies, name) is entry.make
    assert made == entry.make() == entry.build()
    given = inspect.signature(entry.make).parameters
    assert {p.name: p.default for p in entry.parameters}.items() <= {
        n: p.default for n, p in given.items()
    }.items()
    assert entry.server_rate in (None, made.step.lr)
    for parameter in entry.parameters:
        assert parameter.low <= parameter.default <= parameter.high
        entry.build(**{parameter.name: parameter.low})
        entry.build(**{parameter.name: parameter.high})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("fedpox", {}, r"strategy: got 'fedpox', expected one of \['by_norm', 'calibrated'"),
        ("fedprox", {"nu": 1}, r"parameters: got \['nu'\], fedprox has \['mu', 'server_rate'\]"),
        ("fedatt", {"server_rate": 1}, r"got \['server_rate'\], fedatt has \['epsilon'\]"),
        ("fedavg", {"sends": 1}, r"got \['sends'\]"),
        ("fedprox", {"mu": -1}, "mu: got -1, expected a number from 1e-05 to 10"),
        ("fedprox", {"mu": math.nan}, "mu: got nan"),
        ("krum", {"f": 1.5}, "f: got 1.5, expected a whole number from 0 to 10"),
        ("fedavg", {"server_rate": 0}, "server_rate: got 0, expected a finite number above 0"),
        ("qfedavg", {"lr": 0}, "lr: got 0"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(name, given, message):
    with pytest.raises(ValueError, match=message):
        make(name, **given)


def test_ranges_over_powers_of_ten_and_counts_are_known_as_such():
    kinds = [
        (p.name, p.log, p.whole) for n in ("fedprox", "krum") for p in STRATEGIES[n].parameters
    ]
    assert kinds == [("mu", True, False), ("f", False, True), ("keep", False, True)]


@pytest.fixture
def forgotten():
    """Entries that a test adds are gone after it."""
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


def test_a_strategy_of_ones_own_is_one_function(forgotten, tmp_path, capsys):
    @registered(most=(0.1, 1.0))
    def mine(most: float = 0.25) -> Strategy:
        """The mean, cut to a length of at most `most`."""
        return Strategy(Clipped(most))

    assert make("mine") == Strategy(Clipped(0.25))
    assert STRATEGIES["mine"].sentence == "The mean, cut to a length of at most `most`."
    assert make("mine", most=0.5, server_rate=2.0) == Strategy(Clipped(0.5), Add(2.0))
    command = ["--folder", str(tmp_path), "run", "--strategy", "mine", "--parameter"]
    assert main([*command, "most=2"]) == 1  # so the command knows its name
    assert "most: got 2.0, expected a number from 0.1 to 1" in capsys.readouterr().err


def test_a_decorator_without_arguments_is_enough(forgotten):
    @registered
    def plain() -> Strategy:
        """As FedAvg."""
        return Strategy()

    assert make("plain") == strategies.fedavg()
    assert STRATEGIES["plain"].sentence == "As FedAvg."


def test_a_file_of_ones_own_in_the_folder_is_found(tmp_path):
    """The example of the page on the package, put where that page says."""
    folder = tmp_path / "fedlab_helpers"
    shutil.copytree(Path(fedlab_helpers.__file__).parent, folder)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (folder / "strategies" / "heavy.py").write_text(example.partition("\n\n\nprint")[0])
    asks = "from fedlab_helpers import strategies as s; print(s.make('heavy') == s.heavy(0.3))"
    command = [sys.executable, "-c", f"{asks}; print(s.table().loc['heavy', 'parameters'])"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "beta=0.3"]


def test_the_table_says_what_each_needs():
    table = strategies.table()
    assert table.index.tolist() == list(STRATEGIES)
    assert table["least_cohort"]["krum"] == 7
    whole = ["private", "private_adaptive", "dp_sgd", "scaffold", "feddyn"]
    assert table.index[table["dense"]].tolist() == whole
    assert table.loc[["fedavg", "median"], "linear"].tolist() == [True, False]
    assert table["what it does"].str.len().min() > 10


def test_a_number_with_a_range_of_numbers_is_none_of_a_count(forgotten):
    @registered(mu=(0.0, 10.0))
    def odd(mu: float = 1) -> Strategy:
        """The proximal term, by a default that is written as an integer."""
        return FedProx(mu=mu)

    assert make("odd", mu=0.5) == FedProx(mu=0.5)


def test_what_cannot_be_registered_is_refused_by_name(forgotten):
    with pytest.raises(ValueError, match="far: got 3, expected a default in 0 to 1"):

        @registered(far=(0, 1))
        def beyond(far: float = 3) -> Strategy:
            return Strategy()

    with pytest.raises(ValueError, match=r"server_rate: got \(0.1, 1\), expected True or False"):
        registered(server_rate=(0.1, 1))
    with pytest.raises(ValueError, match=r"stepless: its step: got .*expected a field `lr`"):

        @registered
        def stepless() -> Strategy:
            return Strategy(step=lambda server, change: server)

    with pytest.raises(ValueError, match=r"bare: \['most'\] have no default"):

        @registered()
        def bare(most: float) -> Strategy: ...

    with pytest.raises(ValueError, match=r"other: \['most'\] have no default"):

        @registered(most=(0, 1))
        def other() -> Strategy: ...

    with pytest.raises(ValueError, match=r"fedavg: fedlab_helpers\.strategies\.means has"):

        @registered()
        def fedavg() -> Strategy:
            return Strategy(Mean())


def moved(strategy: Strategy, *changes: list[float]) -> torch.Tensor:
    server = strategy.init({"w": torch.zeros(2)}, clients=len(changes))
    extra = {n: torch.zeros_like(t) for n, t in strategy.extra_like(server.params).items()}
    updates = [
        Update(client, {"w": torch.tensor(change)}, {}, 5, 2, (1.0,), extra)
        for client, change in enumerate(changes)
    ]
    return strategy.aggregate(server, updates).params["w"]


# The weights of `by_norm` and `qfedavg` depend on the change that is moved about here, and a
# private mean knows its cohort in a run only.
OTHERS = {"by_norm", "qfedavg", "worst_group", "private", "private_adaptive"}


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - OTHERS))
def test_where_sums_are_enough_nothing_else_of_the_updates_matters(name):
    """Seven clients of equal weights; what one client's change gains, another's loses."""
    rest = [[1.0, 1.1], [1.1, 1.0], [0.9, 1.0], [9.0, 0.0], [0.0, 4.0]]
    one = moved(make(name), [1.0, 1.0], [2.0, 5.0], *rest)
    other = moved(make(name), [-27.0, 3.0], [30.0, 3.0], *rest)
    same = torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    # Row by row, too, as long as everybody sends every row.
    assert same == (is_linear(make(name)) or name == "rowwise")


def test_a_strategy_that_aggregates_in_its_own_way_is_not_taken_to_be_linear():
    class Own(Strategy):
        def aggregate(self, server, updates):
            return super().aggregate(server, updates)

    assert not is_linear(Own(Mean()))
    assert not is_linear(Strategy(lambda base, updates: base))
