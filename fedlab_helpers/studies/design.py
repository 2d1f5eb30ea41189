"""A design for a brief: all that somebody chooses, and the books of what it came to."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from statistics import median
from threading import Event, Lock
from typing import Any

import torch
from torch import nn

from fedlab_helpers.compression.codec import Compressed
from fedlab_helpers.compression.registry import KEEPS, LOSSLESS, PARTS, WRITES, make_codec
from fedlab_helpers.compression.registry import settled as settled_codec
from fedlab_helpers.compression.values import Quantized
from fedlab_helpers.core.compute import child_seed, intra_op_threads, numpy_rng, torch_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import is_count, require, require_share
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig, Stopped, judged, train
from fedlab_helpers.personal.fine_tuning import fine_tune
from fedlab_helpers.privacy.budget import Mechanism, noise_multiplier_for
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import make_strategy
from fedlab_helpers.shrinking import apply_masks, smallest_masks
from fedlab_helpers.strategies import attacks
from fedlab_helpers.strategies.dp_sgd import DpSgd
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.studies.briefs import Brief, alone, brief_of, owners_of
from fedlab_helpers.studies.plain_models import Judge
from fedlab_helpers.tasks.layers import LAYERS
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.owners import score
from fedlab_helpers.tasks.series import SeriesRNN

SUMS = "sums"  # in the place of a layer: no network, but the model that a few sums make
DEVICE_FORMS = ("float32", "float16", "bits8", "bits4")
YARD = 0.17  # CPU seconds of `yard` on the machine where the tables were made
_ONE = Lock()
_SQUEEZE = 10  # of what a device keeps: zeros take no place then


@dataclass(frozen=True)
class Design:
    """All that decides a run for a brief. What does not apply is set to its default, so that equal
    runs are equal.

    Args:
        cell: the layer, a name in `LAYERS`; or "sums": the model of sums, with nothing else.
        size: of the state, and of a word's vector.
        strategy, parameters, server_rate: as in `Recipe`. "private" and its kin draw cohorts by
            coins, one a client.
        optimizer, lr, epochs, batch: of the clients' training.
        rounds, cohort: how often, and how many clients.
        keep, amount, write, squeeze, feedback, momentum: what a client sends, as in `make_codec`.
        secure: whether the server sees sums only.
        tuning, tuning_rate: epochs of each client on its own data after the last round, and their
            learning rate.
        pruned: share of each matrix's weights that a device does not keep.
        device: how a device keeps a weight, a name in `DEVICE_FORMS`.

    Raises ValueError for a name that is not among those. Numbers are looked at by `problem`.
    """

    cell: str = "gru"
    size: int = 32
    strategy: str = "fedavg"
    parameters: Any = ()
    server_rate: float | None = None
    optimizer: str = "adam"
    lr: float = 1e-2
    epochs: int = 1
    batch: int = 16
    rounds: int = 15
    cohort: int = 10
    keep: str = "touched_rows"
    amount: float | None = None
    write: str | None = None
    squeeze: int | None = None
    feedback: bool = False
    momentum: float = 0.0
    secure: bool = False
    tuning: int = 0
    tuning_rate: float = 2e-3
    pruned: float = 0.0
    device: str = "float32"

    def __post_init__(self):
        names = {
            "cell": (*LAYERS, SUMS), "strategy": (*STRATEGIES,), "optimizer": ("adam", "sgd"),
            "keep": (*LOSSLESS, *KEEPS), "write": (None, *WRITES), "device": DEVICE_FORMS,
        }  # fmt: skip
        for name, known in names.items():
            require(getattr(self, name) in known, name, getattr(self, name), f"one of {known}")
        fine = isinstance(self.parameters, Mapping | tuple)
        require(fine, "parameters", self.parameters, "numbers of the strategy by name")
        entry = STRATEGIES[self.strategy]
        settled = {
            "parameters": entry.settled(dict(self.parameters)),
            "server_rate": entry.server_rate and (self.server_rate or entry.server_rate),
            **settled_codec({name: getattr(self, name) for name in PARTS}),
        }
        if not self.tuning:
            settled["tuning_rate"] = Design.tuning_rate
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        if self.cell == SUMS:
            odd = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
            none = "nothing else: it is no network"
            require(odd in (["cell"], ["cell", "server_rate"]), "cell: sums, with", odd[1:], none)

    def to_json(self) -> str:
        """Return what differs from the defaults as JSON."""
        usual = asdict(Design(cell=self.cell, strategy=self.strategy))
        named = {"cell": self.cell, "strategy": self.strategy}
        given = {name: value for name, value in asdict(self).items() if value != usual[name]}
        own = {"parameters": dict(self.parameters)} if "parameters" in given else {}
        return json.dumps(named | given | own)

    @classmethod
    def from_json(cls, written: str) -> "Design":
        """Return the design that `to_json` wrote. Raises ValueError: it is none."""
        try:
            return cls(**json.loads(written))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"design: not the JSON of one: {error}"[:500]) from error

    def new_strategy(self, brief: Brief) -> Strategy:
        """Return the strategy; its noise can be drawn again, for this is a measurement, and
        protects nobody. Raises ValueError: a parameter is out of range."""
        made = make_strategy(self.strategy, dict(self.parameters), self.lr, self.server_rate)
        own = {"delta": brief.delta, "repeatable": True}
        if isinstance(made, DpSgd):
            return replace(made, private=replace(made.private, **own))
        if not isinstance(made.combine, PrivateMean):
            return made
        # A cohort that stands for more clients has a larger sum, beside which noise is smaller.
        noise = made.combine.noise_multiplier / brief.stands_for
        mean = _Unaccounted(made.combine.clip, noise, **own)
        return replace(made, combine=mean)

    def plan(self, clients: int, seed: int, by_coins: bool) -> Plan:
        """Return the plan. Raises ValueError: a number is out of range."""
        clip = None if isinstance(STRATEGIES[self.strategy].make(), DpSgd) else 1.0
        local = LocalConfig(self.epochs, self.batch, self.lr, self.optimizer, max_grad_norm=clip)
        sampling = "poisson" if by_coins and self.cohort < clients else "fixed"
        return Plan(self.rounds, self.cohort, local, seed, 1, self.rounds, sampling=sampling)

    @property
    def local_tuning(self) -> LocalConfig:
        """How a client trains on its own. Raises ValueError: a number is out of range."""
        return LocalConfig(1, self.batch, self.tuning_rate, self.optimizer)

    @property
    def device_codec(self) -> Compressed:
        """How a device keeps weights."""
        values = WRITES[self.device]
        if isinstance(values, Quantized):
            values = replace(values, stochastic=False)  # once: nothing is averaged afterwards
        return Compressed(write=values, squeeze=_SQUEEZE)

    def on_device(self, model: nn.Module) -> bytes:
        """Return the bytes that a device keeps of a model; weights that are pruned are set to 0 in
        it. Raises ValueError: the share is not in [0, 1)."""
        apply_masks(model, smallest_masks(model, self.pruned))
        return self.device_codec.encode(of_model(model))


class _Unaccounted(PrivateMean):
    """The same mean, with epsilon counted once, after the run: by whom each client stands for."""

    def told(self) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class Line:
    """One budget of a brief: what is accepted, what a design takes, and whether that is met."""

    budget: str
    limit: float
    got: float

    @property
    def met(self) -> bool:
        """Whether the design stays within it."""
        return self.got <= self.limit


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a design came to. Means are over all clients, of the whole run.

    Args:
        brief, design, seed: what was made for whom.
        scores: client -> the measure of its model on its own validation examples, of those that
            are asked; hostile ones are not.
        alone: client -> that of the model that it would have without the others.
        used: budget -> what was used of it, for each in `BUDGETS`.
        megabytes_down: received by a client.
        left_out: updates that the server refused.
        judges: client -> what judges its model's answers to any examples.
    """

    brief: Brief
    design: Design
    seed: int
    scores: Mapping[int, float]
    alone: Mapping[int, float]
    used: Mapping[str, float]
    megabytes_down: float
    left_out: int
    judges: Mapping[int, Judge] = field(repr=False)

    @property
    def score(self) -> float:
        """The mean over the clients."""
        return sum(self.scores.values()) / len(self.scores)

    @property
    def lines(self) -> list[Line]:
        """The brief's budgets."""
        return [Line(name, limit, self.used[name]) for name, limit in self.brief.limits.items()]

    @property
    def missed(self) -> list[str]:
        """The budgets that it does not stay within."""
        return [line.budget for line in self.lines if not line.met]

    def exam(self) -> float:
        """Return the mean of the clients' measures on their tests, which nothing was chosen by.
        (Who loses is counted on validation only.)"""
        found = _measured(self.brief.name, self.seed, self.judges, "test")
        return sum(found.values()) / len(found)


def noise_within(name: str, design: Design) -> float:
    """Return the noise multiplier with which a design stays within the epsilon of a brief. Where
    examples are protected it is enough for a client that is in every round. Raises ValueError where
    the two have no epsilon in common."""
    brief, owners = brief_of(name), owners_of(name, 0)
    limit = brief.limits.get("epsilon")
    strategy = STRATEGIES[design.strategy].make()
    if limit and brief.protects == "client" and isinstance(strategy.combine, PrivateMean):
        many, sampling = brief.stands_for, "poisson" if design.cohort < len(owners) else "all"
        told = design.rounds, many * len(owners), many * design.cohort
        return _least_noise(limit, *told, sampling, brief.delta)
    asked = "one that promises an epsilon to whom the brief protects"
    fine = limit and brief.protects == "example" and isinstance(strategy, DpSgd)
    require(bool(fine), "strategy", design.strategy, asked)
    local, fewest = design.plan(len(owners), 0, False).local, {}
    for n in sorted({len(owner.train.only_asked()) for owner in owners}, reverse=True):
        fewest[local.steps(n)] = n  # of those with as many steps, whoever is drawn most often
    told = [(design.rounds * steps, n, min(design.batch, n)) for steps, n in fewest.items()]
    return max(_least_noise(limit, *each, "poisson", brief.delta) for each in told)


_least_noise = cache(noise_multiplier_for)


def problem(name: str, design: Design) -> str | None:
    """Return why a design cannot be run for a brief; None: it can."""
    brief = brief_of(name)
    try:
        _require_sums_fit(brief) if design.cell == SUMS else _started(brief, design, 0)
    except ValueError as error:
        return str(error)
    return None


def measure(
    name: str,
    design: Design,
    seed: int = 0,
    stop: Event | None = None,
    on_round: Callable[[int], None] = lambda number: None,
) -> Outcome:
    """Run a design, and return what it came to.

    One run goes on at a time in a process, for its clock is what is read.

    Args:
        name: of the brief.
        design: what is run.
        seed: of the deal, and of all chance.
        stop: once set, `Stopped` is raised.
        on_round: called with the number of each finished round.

    Raises:
        ValueError: it cannot be run, or another run goes on; the message says why.
        Stopped: `stop` was set.
        NoUpdateLeft: no client of a round sent an update that could be used.
    """
    brief = brief_of(name)
    nobody = "none in this process: the clock would count its seconds, too"
    require(_ONE.acquire(blocking=False), "another run", "one that goes on", nobody)
    try:
        with intra_op_threads(1):
            if design.cell == SUMS:
                return _by_sums(brief, design, seed)
            return _by_rounds(brief, design, seed, stop, on_round)
    finally:
        _ONE.release()


def _by_rounds(
    brief: Brief, design: Design, seed: int, stop: Event | None, on_round: Callable[[int], None]
) -> Outcome:
    """As `measure`, of a network."""
    run, owners = _started(brief, design, seed, stop), owners_of(brief.name, seed)
    records, spent = _clocked(run.records, on_round)
    if len(records) < design.rounds:
        raise Stopped
    asked = [c for c in range(0, len(owners), brief.every) if c not in run.hostile]
    began = time.process_time()
    kept = _kept(brief, design, seed, run.model, asked, stop)
    tuned = (time.process_time() - began) / len(asked) if design.tuning else 0.0
    known: dict[bytes, Judge] = {}  # what a payload answers
    for payload in dict.fromkeys(kept.values()):
        held = brief.new_model(design.cell, design.size, seed)
        held.load_state_dict(design.device_codec.decode(payload))
        known[payload] = partial(judged, held)
    judges = {client: known[payload] for client, payload in kept.items()}
    up, down = (sum(getattr(r, n) for r in records) for n in ("bytes_up", "bytes_down"))
    used = {
        "megabytes_up": up / len(owners) / 1e6,
        "cpu_seconds": (spent / len(owners) + tuned) * YARD / yard(),
        "device_kilobytes": max(map(len, known)) / 1e3,
        "epsilon": _epsilon(brief, run, records, seed),
        "seen": 0.0 if design.secure else 1.0,
    }
    left_out = sum(len(record.left_out) for record in records)
    return _outcome(brief, design, seed, judges, used, down / len(owners) / 1e6, left_out)


@dataclass(frozen=True, eq=False)
class _Started:
    """A run in which nobody has trained yet."""

    model: nn.Module
    hostile: tuple[int, ...]
    strategy: Strategy
    plan: Plan
    records: Iterator[RoundRecord]


def _clocked(
    run: Iterator[RoundRecord], on_round: Callable[[int], None]
) -> tuple[list[RoundRecord], float]:
    """Return the records of a run, and the process seconds that its rounds took."""
    records, spent = [], 0.0
    while True:
        began = time.process_time()
        record = next(run, None)
        spent += time.process_time() - began
        if record is None:
            return records, spent
        records.append(record)
        on_round(record.round)


def _outcome(
    brief: Brief,
    design: Design,
    seed: int,
    judges: Mapping[int, Judge],
    used: dict[str, float],
    down: float,
    left_out: int = 0,
) -> Outcome:
    own = {client: judge for client, judge in alone(brief.name, seed).items() if client in judges}
    scores, without = (_measured(brief.name, seed, each) for each in (judges, own))
    up = brief.higher_is_better
    holds = [scores[c] >= without[c] if up else scores[c] <= without[c] for c in scores]
    loses = [not held for held in holds]  # what is no number holds nothing
    used = used | {"losing": sum(loses) / len(loses)}
    return Outcome(brief, design, seed, scores, without, used, down, left_out, judges)


def _measured(
    name: str, seed: int, judges: Mapping[int, Judge], part: str = "validation"
) -> dict[int, float]:
    """Return the measure of each client's model on its own part; what several share is judged
    once."""
    owners, measure = owners_of(name, seed), brief_of(name).measure
    known, found = {}, {}
    for client, judge in judges.items():
        data = getattr(owners[client], part)
        key = id(judge), id(data)
        if key not in known:
            known[key] = judge(data)
        found[client] = score(data.objective, [known[key]])["own"][measure]
    return found


def _started(brief: Brief, design: Design, seed: int, stop: Event | None = None) -> _Started:
    """Return what is to run. Raises ValueError: it cannot be run."""
    fine = design.tuning == 0 or is_count(design.tuning)
    require(fine, "tuning", design.tuning, "an integer of at least 0")
    _ = design.local_tuning
    require_share(pruned=design.pruned)
    owners = owners_of(brief.name, seed)
    hostile = attacks.choose(len(owners), brief.attackers, numpy_rng(seed, "attackers"))
    data, lies = attacks.attacked([own.train for own in owners], hostile, brief.attack)
    strategy = design.new_strategy(brief)
    plan = design.plan(len(owners), seed, isinstance(strategy.combine, PrivateMean))
    model = brief.new_model(design.cell, design.size, seed)
    options: dict[str, Any] = {"transforms": lies, "stop": stop}
    lossless = design.keep in LOSSLESS
    if design.secure:
        sums = "what clients send whole: masks hide numbers of a ring, not what a codec leaves"
        require(lossless, "secure: keep", design.keep, sums)
        real = "1: masks for clients that are not there would cost, and are not counted"
        require(brief.stands_for == 1, "secure: one client stands for", brief.stands_for, real)
        options["secure"] = SecureSum(most_examples=float(brief.most_examples))
    else:
        options["codec"] = make_codec(**{name: getattr(design, name) for name in PARTS})
    records = rounds(model, data, strategy, plan, **options)
    return _Started(model, hostile, strategy, plan, records)


def _kept(
    brief: Brief, design: Design, seed: int, model: nn.Module, asked: list[int], stop: Event | None
) -> dict[int, bytes]:
    """Return what each device that is asked keeps, with its own training where that is wanted."""
    if not design.tuning:
        payload = design.on_device(model)
        return dict.fromkeys(asked, payload)
    start, kept, owners = of_model(model), {}, owners_of(brief.name, seed)
    local = design.local_tuning
    for client in asked:
        chance = {"seed": child_seed(seed, "tuning", client), "stop": stop}
        tuned = fine_tune(model, start, owners[client].train, local, design.tuning, **chance)
        model.load_state_dict(tuned.weights)
        kept[client] = design.on_device(model)
    return kept


def _epsilon(brief: Brief, run: _Started, records: list[RoundRecord], seed: int) -> float:
    """Return epsilon of those whom the brief protects; inf where the strategy counts none of
    theirs."""
    strategy, plan, owners = run.strategy, run.plan, owners_of(brief.name, seed)
    if brief.protects == "client" and isinstance(strategy.combine, PrivateMean):
        if not (noise := strategy.combine.noise_multiplier * brief.stands_for):
            return math.inf
        times, everybody = brief.stands_for, plan.sampling != "poisson"
        cohort = len(owners) if everybody else plan.clients_per_round
        told = noise, len(records), times * len(owners), times * cohort
        return Mechanism(*told, "all" if everybody else "poisson", brief.delta).epsilon()
    if brief.protects == "example" and isinstance(strategy, DpSgd):
        taken = Counter(client for record in records for client in record.cohort)
        cases = {(len(owners[c].train.only_asked()), times) for c, times in taken.items()}
        return max(strategy.private.epsilon(n, plan.local, times) for n, times in cases)
    return math.inf


def _require_sums_fit(brief: Brief) -> None:
    none = "a network: nothing here defends a model of sums against clients that lie"
    require(not brief.attackers, "cell", SUMS, none)


def _by_sums(brief: Brief, design: Design, seed: int) -> Outcome:
    """As `measure`, of the model that is made of sums."""
    _require_sums_fit(brief)
    owners = owners_of(brief.name, seed)
    began = time.process_time()
    fitted = list(brief.sums([own.train for own in owners]))
    spent = time.process_time() - began
    judges = dict.fromkeys(range(0, len(owners), brief.every), fitted[-1].judges)
    up, down = (sum(getattr(f, n) for f in fitted) for n in ("bytes_up", "bytes_down"))
    used = {
        "megabytes_up": up / len(owners) / 1e6,
        "cpu_seconds": spent / len(owners) * YARD / yard(),
        "device_kilobytes": fitted[-1].bytes_held / 1e3,
        "epsilon": math.inf,
        "seen": 1.0,
    }
    return _outcome(brief, design, seed, judges, used, down / len(owners) / 1e6)


@cache
def yard() -> float:
    """Return how many CPU seconds a fixed piece of training takes here, the median of five: by
    it, seconds of this machine become those of the machine where the tables were made."""
    steps = torch_rng(0, "yard")
    series, wanted = (torch.randn(1024, 48, *more, generator=steps) for more in ((8,), ()))
    data = Examples((series,), wanted, Numbers(each_step=True))

    def once() -> float:
        model = SeriesRNN(8, 64, cell="lstm", each_step=True, seed=0)
        began = time.thread_time()  # whatever else goes on in this process
        with intra_op_threads(1):
            train(model, data, LocalConfig(1, 16, 1e-2), seed=0)
        return time.thread_time() - began

    return median(once() for _ in range(5))
