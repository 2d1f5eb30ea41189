"""What becomes of runs over a network while its processes are killed, stopped, slowed and fed
damaged messages, at moments that a seed decides.

Each run is of real processes on this machine: a SuperLink and five nodes with keys. Whoever dies is
started again, and a run that breaks off is resumed, as its user would do with the commands. At the
end the weights must be those of a simulation with the same clients left out, bit for bit, also
where clients keep something between rounds, and no process may be left.

Nodes run `chaos_app`: the app of every network, with some messages damaged.
"""

import json
import os
import random
import tempfile
import time
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.messages import ClientState, Received, Reply
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds_with, sample_cohort
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.network import runs
from fedlab_helpers.network.flower import NODES, NetworkError
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.node import Node, write_reviews
from fedlab_helpers.network.processes import marked
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.studies.results import Row
from fedlab_helpers.studies.study import Settings, Study
from fedlab_helpers.tasks.reviews.corpus import load_reviews
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize_all

NODE_COUNT, COHORT, REVIEWS = 5, 4, 40  # and reviews of each
RUNS = 7  # so far, of four kinds in turn; and one more with changes down
EVENTS = 7  # of a run of ten rounds
LIMIT = 1800.0  # seconds in which a run must have ended
PORT = 8600
APP = "fedlab_helpers.studies.chaos_app"
PLAN = "FEDLAB_CHAOS"  # the variable in which nodes find which messages are damaged
TO_PROCESSES = ("kill node", "stop node", "kill server app", "kill SuperLink", "stop SuperLink")
TO_MESSAGES = ("slow", "damaged request", "damaged reply", "short reply")
MODEL = {"embedding_dim": 6, "hidden_size": 5, "pooling": "mean", "dropout": 0.2, "seed": 1}
KINDS = {  # what clients keep between rounds, or share within one, differs
    "fedavg": {},
    "scaffold": {"codec": "dense"},
    "signs": {"codec": "signs"},
    "secure sum": {
        "codec": "dense",
        "secure": SecureSum(16, 2.0, most_examples=REVIEWS, share=0.6),
    },
    "changes": {"codec": "signs", "downlink": "signs"},
}
_OF_RUNS = [(seed, tuple(KINDS)[seed % 4]) for seed in range(RUNS)]
_OF_RUNS += [(RUNS, "changes")]


@dataclass(frozen=True)
class Event:
    """Something that goes wrong.

    Args:
        round: in which; counted from 1.
        after: seconds after the round before has ended, where it happens to a process.
        what: one of `TO_PROCESSES` or `TO_MESSAGES`.
        client: whose node, where it happens to one.
        seconds: until it is put right, where it is for a time.
    """

    round: int
    after: float
    what: str
    client: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.round}: {self.what}" + (
            f" {self.client}" if self.what.endswith("node") else ""
        )


def events(seed: int, rounds: int, count: int = EVENTS) -> list[Event]:
    """Return what goes wrong in a run, as its seed has it, in order."""
    dice, plan, found = random.Random(seed), Plan(rounds, COHORT, seed=seed), []
    for _ in range(count):
        number, after = dice.randint(2, rounds), round(dice.uniform(0, 8), 1)
        what = dice.choice(TO_PROCESSES + TO_MESSAGES)
        client = dice.choice(sample_cohort(plan, number, NODE_COUNT))  # who is asked then
        found.append(Event(number, after, what, client, round(dice.uniform(2, 45), 1)))
    return sorted(found, key=lambda event: (event.round, event.after))


class Disturbed:
    """A run over a network, and what happens to it.

    Args:
        folder: new.
        job: the run.
        files: what its nodes own.
        plan: what goes wrong.
        port: of the SuperLink; the nodes take the next ones.
    """

    def __init__(self, folder: Path, job: Job, files: list[Path], plan: list[Event], port: int):
        self.folder, self.job, self.files, self.port = folder, job, files, port
        self.left = [event for event in plan if event.what in TO_PROCESSES]
        self.later: list[tuple[float, psutil.Process]] = []  # when who goes on again
        self.restarts: dict[int, float] = {}  # client -> when its node is started again
        self.resumed = 0
        self.tokens: list[str] = []
        self.network: Network | None = None
        self._started = time.monotonic()

    def run(self) -> Path:
        """Run to the end; return the folder of the results. Raises NetworkError: it has none."""
        self._up()
        try:
            results = runs.submit(self.folder, self.job, client=APP, wait=600, least=3)
            while not (results / runs.METRICS).exists():
                if time.monotonic() > self._started + LIMIT:
                    raise NetworkError(f"{results}: no end after {LIMIT:.0f} s")
                self._watch(results)
            return results
        finally:
            self._down()

    def _watch(self, results: Path) -> None:
        """Let happen what is due, put right what is broken, and see how the run does."""
        news, done = time.monotonic(), -1
        while not (results / runs.METRICS).exists() and time.monotonic() < self._started + LIMIT:
            if (now := len(_records(results))) != done:
                news, done = time.monotonic(), now
            self._disturb(done + 1, time.monotonic() - news)
            self._mend()
            broken = (results / runs.FAILURE).exists() or self._link_is_gone()
            if not broken and int(time.monotonic() - news) % 10 == 9:
                with suppress(NetworkError):  # a SuperLink that is stopped does not answer
                    broken = not runs.goes_on(runs.status(results)["status"])
            if broken and not (results / runs.METRICS).exists():
                self._resume(results)
                return
            time.sleep(0.2)

    def _disturb(self, number: int, seconds: float) -> None:
        """Let happen what is due, so many seconds into a round."""
        due = [e for e in self.left if (e.round, e.after) <= (number, seconds)]
        for event in due:
            self.left.remove(event)
            for process, how in self._meant(event):
                with suppress(psutil.Error):
                    if how == "stop":
                        process.suspend()
                        self.later.append((time.monotonic() + event.seconds, process))
                    else:
                        process.kill()

    def _meant(self, event: Event) -> list[tuple[psutil.Process, str]]:
        """Return to which processes something happens, and what."""
        what, _, whom = event.what.partition(" ")
        words = {
            "node": f"client={event.client} reviews=",
            "server app": "flwr-serverapp",
            "SuperLink": "flower-superlink",
        }[whom]
        if (what, whom) == ("kill", "node"):
            self.restarts[event.client] = time.monotonic() + event.seconds
        return [(process, what) for process in self.network.find(words)]

    def _mend(self) -> None:
        """Wake up who was stopped, and start again who is dead, once it is time."""
        now = time.monotonic()
        for at, process in [entry for entry in self.later if entry[0] <= now]:
            self.later.remove((at, process))
            with suppress(psutil.Error):
                process.resume()
        if self._link_is_gone():
            return
        with suppress(NetworkError):
            self.network.revive()
        for client in range(NODE_COUNT):
            process = self.network.processes.get(f"node{client}")
            if process and process.poll() is not None and self.restarts.get(client, 0) <= now:
                with suppress(NetworkError):  # a SuperLink that is stopped registers no key
                    self.network.start_node(client)

    def _link_is_gone(self) -> bool:
        return self.network.processes["superlink"].poll() is not None

    def _resume(self, results: Path) -> None:
        """Go on with a run that broke off, on a new network where the old one has no SuperLink."""
        if self._link_is_gone():
            self._down()
            self._up()
        with suppress(NetworkError):  # tried again
            runs.resume(results)
            self.resumed += 1

    def _up(self) -> None:
        self.network = Network(self.folder, self.files, secure=True, port=self.port)
        self.network.__enter__()
        self.tokens.append(self.network._token)

    def _down(self) -> None:
        for _, process in self.later:
            with suppress(psutil.Error):
                process.resume()
        self.later.clear()
        self.restarts.clear()
        self.network.stop()

    def left_over(self) -> int:
        """Return how many processes of its networks there are, and marks of them."""
        processes = sum(len(marked(token)) for token in self.tokens)
        return processes + (self.folder / NODES).exists()


class Without(Clients):
    """Clients in this process, of whom some are left out of some rounds: round -> whom."""

    lost: Mapping[int, Collection[int]]

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        for reply in super().replies(number, cohort, received, states):
            gone = reply.client in self.lost.get(number, ())
            yield Reply(reply.client, failure="left out") if gone else reply


def simulated(
    job: Job, files: Iterable[Path], lost: Mapping[int, Collection[int]]
) -> tuple[State, list[RoundRecord]]:
    """Return the weights and records of the job in this process, with some left out of rounds."""
    model, strategy = job.new_model(), job.new_strategy()
    data = [Node.owning(job, client, path).reviews for client, path in enumerate(files)]
    clients = Without(model, data, strategy, job.plan, job.new_codec())
    clients.lost = lost
    workers = job.secure.over(clients) if job.secure else clients
    records = list(rounds_with(workers, model, strategy, job.plan, downlink=job.new_downlink()))
    return of_model(model), records


def same(one: State, other: State) -> bool:
    """Return whether two models' weights are equal, bit for bit."""
    names = one.keys() == other.keys()
    return names and all(
        one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one
    )


def true_of(record: RoundRecord, other: RoundRecord, job: Job) -> bool:
    """Return whether a record says what was so, where `other` is the simulation's."""
    fine = record.cohort == sample_cohort(job.plan, record.round, NODE_COUNT)
    fine &= {*record.client_losses} == {*record.cohort} - {*record.left_out}
    said = (record.round, record.examples, record.steps, record.bytes_down)
    fine &= said == (other.round, other.examples, other.steps, other.bytes_down)
    return fine and str(record.client_losses) == str(other.client_losses)


def disturbed_run(seed: int, kind: str, rounds: int, count: int, port: int, folder: Path) -> Row:
    """Return what became of one run."""
    every = load_reviews()
    owned = [
        every[k::600][: REVIEWS // 2] + every[-1 - k :: -600][: REVIEWS // 2] for k in range(5)
    ]
    files = write_reviews(folder / "own", owned)
    words = Vocabulary.build(tokenize_all([r.text for one in owned for r in one]), min_count=2)
    plan = Plan(rounds, COHORT, LocalConfig(batch_size=8, lr=0.05), seed=seed)
    strategy = kind if kind == "scaffold" else "fedavg"
    job = Job(words.words[2:], plan, strategy, model=MODEL, **KINDS[kind])
    bad = events(seed, rounds, count)
    os.environ[PLAN] = json.dumps([asdict(e) for e in bad if e.what in TO_MESSAGES])
    disturbed = Disturbed(folder / "net", job, files, bad, port)
    began = time.monotonic()
    try:
        results = disturbed.run()
    finally:
        del os.environ[PLAN]
    seconds = time.monotonic() - began
    records = [RoundRecord.from_json(record) for record in _records(results)]
    expected, others = simulated(job, files, {r.round: r.left_out.keys() for r in records})
    pairs = list(zip(records, others, strict=True))
    return {
        "events": "; ".join(map(str, bad)),
        "rounds_done": len(records),
        "left_out": sum(len(record.left_out) for record in records),
        "resumed": disturbed.resumed,
        "weights_equal": same(runs.weights(results), expected),
        "records_true": all(true_of(*pair, job) for pair in pairs),
        "left_over": disturbed.left_over(),
        "seconds": round(seconds),
    }


def measure_chaos(settings: Settings) -> list[Row]:
    """Return what became of one run, in a folder that is removed."""
    own = (settings["seed"], settings["kind"], settings["rounds"], settings["events_planned"])
    with tempfile.TemporaryDirectory() as name:
        return [disturbed_run(*own, PORT, Path(name))]


def _records(results: Path) -> list[dict]:
    with suppress(FileNotFoundError):
        return json.loads((results / runs.RECORDS).read_text("utf-8"))
    return []


CHAOS = Study(
    "chaos",
    tuple(
        {"seed": seed, "kind": kind, "rounds": 10, "events_planned": EVENTS}
        for seed, kind in _OF_RUNS
    ),
    measure_chaos,
)
