"""The strategies by name: how each is made, its numbers as they were tuned, and what it needs.

Whatever offers strategies (panels, studies, the network's command) reads `STRATEGIES`. A
new one is a function that `registered` decorates; the tuned numbers are that function's defaults.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fedlab_helpers.core.require import require, require_positive
from fedlab_helpers.core.strategy import Combine, Mean, Strategy, least_cohort

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Parameter:
    """One number of a strategy."""

    name: str
    default: float  # its tuned value
    low: float  # the least that is worth trying
    high: float  # the largest

    def __post_init__(self):
        fine = self.low <= self.default <= self.high
        require(fine, self.name, self.default, f"a default in {self.low} to {self.high}, its range")

    @property
    def whole(self) -> bool:
        """Whether it is a count: default and range are integers."""
        return all(isinstance(value, int) for value in (self.default, self.low, self.high))

    @property
    def log(self) -> bool:
        """Whether its range spans powers of ten, as a slider should then, too."""
        return 0 < 100 * self.low <= self.high

    def checked(self, value: float) -> float:
        """Return the value, a count as an int. Raises ValueError: it is out of range."""
        kind = "a whole number" if self.whole else "a number"
        fine = self.low <= value <= self.high and not (self.whole and value != int(value))
        require(fine, self.name, value, f"{kind} from {self.low:g} to {self.high:g}")
        return int(value) if self.whole else value


@dataclass(frozen=True)
class Entry:
    """One strategy as it can be chosen."""

    name: str
    make: Callable[..., Strategy]  # called without arguments: the strategy as it was tuned
    sentence: str  # what it does: the first line of `make`'s docstring
    parameters: tuple[Parameter, ...] = ()  # its own, beside the server rate
    # Tuned learning rate of its server step; None: it has none, or one that its rule decides.
    server_rate: float | None = 1.0
    for_sgd: bool = False  # whether its theory is one of plain SGD on the clients
    knows_client_rate: bool = False  # whether `make` is told their learning rate, as `lr`

    @property
    def needs(self) -> dict[str, Any]:
        """Whether clients train and send every embedding row; whether sums over the updates are
        enough for the server; and the least cohort."""
        made = self.make()
        least = least_cohort(made.combine)
        return {"dense": made.dense, "linear": is_linear(made), "least_cohort": least}

    def settled(self, given: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
        """Return all its parameters with their values, as tuned where none is given. Raises
        ValueError: it has no parameter of that name."""
        own = {parameter.name: parameter.default for parameter in self.parameters}
        odd = sorted(given.keys() - own.keys())
        require(not odd, "parameters", odd, f"those of {self.name}: {sorted(own)}")
        return tuple((own | dict(given)).items())

    def build(self, **given: float) -> Strategy:
        """Return the strategy; what is not given is as it was tuned.

        Args:
            given: its parameters, by name; also "server_rate" where it has one, and "lr" where it
                knows the clients' rate.

        Raises:
            ValueError: a name is not among these, or a value out of range.
        """
        own = {parameter.name: parameter for parameter in self.parameters}
        more = {"server_rate": self.server_rate is not None, "lr": self.knows_client_rate}
        known = [*own, *(name for name, has in more.items() if has)]
        if odd := sorted(given.keys() - set(known)):
            raise ValueError(f"parameters: got {odd}, {self.name} has {known}")
        values = {name: p.checked(given.get(name, p.default)) for name, p in own.items()}
        values |= {"lr": given["lr"]} if "lr" in given else {}
        strategy = self.make(**values)
        if "server_rate" not in given:
            return strategy
        require_positive(server_rate=given["server_rate"])
        return replace(strategy, step=replace(strategy.step, lr=given["server_rate"]))


STRATEGIES: dict[str, Entry] = {}


def is_linear(strategy: Strategy) -> bool:
    """Return whether the server needs no more of the updates than sums over them, each weighted by
    what its client knows itself: what secure aggregation lets it see."""
    sums = type(strategy).aggregate is Strategy.aggregate
    combine = strategy.combine
    plain = isinstance(combine, Mean) and not combine.per_row
    return getattr(strategy, "linear", sums) and getattr(combine, "linear", plain)


def require_told_nothing(combine: Combine) -> None:
    """Raise a ValueError if a combination must be told of the rounds of a plan, as one that keeps
    an account of privacy, where nobody tells it."""
    fine = not hasattr(combine, "in_round")
    require(fine, "combine", combine, "one that need not know plan and round: here it is not told")


def registered(
    make: Callable[..., Strategy] | None = None,
    /,
    *,
    server_rate: bool = True,
    for_sgd: bool = False,
    knows_client_rate: bool = False,
    **ranges: tuple[float, float],
) -> Callable:
    """Return the decorator that enters a strategy's function, by its name, into `STRATEGIES`; the
    first line of its docstring is the sentence that tables show.

    Args:
        server_rate: whether a reader may choose the learning rate of its server step.
        for_sgd: see `Entry`, as of `knows_client_rate`.
        ranges: each parameter's least and largest value; the function's default is the tuned one.
            Without a range, a parameter is not offered.

    Raises:
        ValueError: the name is taken, or a parameter has no default or none in its range.
    """
    require(isinstance(server_rate, bool), "server_rate", server_rate, "True or False: it has one")

    def enter(make: Callable[..., Strategy]) -> Callable[..., Strategy]:
        name, accepted = make.__name__, inspect.signature(make).parameters
        bare = {n for n in ranges if n not in accepted}
        bare |= {n for n, p in accepted.items() if p.default is p.empty and p.kind < p.VAR_KEYWORD}
        if bare:
            raise ValueError(f"{name}: {sorted(bare)} have no default, expected the tuned values")
        before = STRATEGIES.get(name)
        if before and before.make.__module__ != make.__module__:
            raise ValueError(f"{name}: {before.make.__module__} has a strategy of this name")
        own = tuple(Parameter(n, accepted[n].default, *ends) for n, ends in ranges.items())
        step = make().step
        rated = hasattr(step, "lr") or not server_rate
        require(rated, f"{name}: its step", step, "a field `lr` there, or server_rate=False")
        rate = step.lr if server_rate else None
        says = (make.__doc__ or "").partition("\n")[0]
        STRATEGIES[name] = Entry(name, make, says, own, rate, for_sgd, knows_client_rate)
        return make

    return enter if make is None else enter(make)


def table() -> "pd.DataFrame":
    """Return a row for each strategy, by name: its numbers as tuned, what it needs, and does."""
    import pandas as pd

    rows = {
        name: {
            "parameters": ", ".join(f"{p.name}={p.default:g}" for p in entry.parameters),
            "server_rate": entry.server_rate,
            **entry.needs,
            "what it does": entry.sentence,
        }
        for name, entry in STRATEGIES.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def make(name: str, /, **parameters: float) -> Strategy:
    """Return a strategy of `STRATEGIES` by name; parameters not given are as they were tuned.

    Raises:
        ValueError: there is no such strategy or parameter, or a value is out of range.
    """
    require(name in STRATEGIES, "strategy", name, f"one of {sorted(STRATEGIES)}")
    return STRATEGIES[name].build(**parameters)
