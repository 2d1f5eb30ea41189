"""What one machine does: train, and evaluate, on the reviews that it owns."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedlab_helpers.core import wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState, Received, Reply, Request, Transform, reason
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.network.job import Job
from fedlab_helpers.privacy.secure.rounds import Party
from fedlab_helpers.tasks.reviews.corpus import Review

PARTS = ("weights", "extra", "buffers")
PHASE = "secure"  # what messages of a secure sum are called


def pack(received: Received) -> dict[str, bytes]:
    """Return what a server sends, as bytes: weights, what the strategy sends beside, buffers."""
    parts = {name: getattr(received, name) for name in PARTS}
    return {name: wire.dense().encode(part) if part else b"" for name, part in parts.items()}


def unpack(sent: Mapping[str, bytes]) -> Received:
    """Return what a server packed. Raises ValueError: the bytes are damaged."""
    return Received(*(wire.dense().decode(sent[name]) if sent[name] else {} for name in PARTS))


@dataclass(frozen=True, eq=False)
class Node:
    """One client of a run, with its own examples.

    Args:
        job: what was agreed on.
        client: which client of the run this is; decides, with the run's seed, all that it draws.
        reviews: its own examples, of reviews encoded with the job's vocabulary.
        transforms: what its updates pass after those of the job; the machine's own affair.
    """

    job: Job
    client: int
    reviews: Examples
    transforms: Sequence[Transform] = ()

    @classmethod
    def owning(cls, job: Job, client: int, path: str | Path) -> "Node":
        """Return the node that owns a file, which is read as `Job.examples` says."""
        return cls(job, client, job.examples(path))

    def train(self, number: int, sent: Mapping[str, bytes], kept: ClientState) -> Reply:
        """Return what the node answers in round `number`; whatever goes wrong is in it.

        Args:
            sent: what `pack` returned at the server.
            kept: what this client kept from earlier rounds.
        """
        try:
            asked = Request(number, self.client, self._received(sent))
            # The clients of the simulation, of which only this one has reviews here.
            data = [()] * self.client + [self.reviews]
            plan = replace(self.job.plan, workers=1, dropout_rate=0.0, pace=None)
            transforms = (*self.job.new_transforms(), *self.transforms)
            parts = (self.job.new_strategy(), plan, self.job.new_codec(), transforms)
            clients = Clients(self.job.new_model(), data, *parts)
            (reply,) = clients.answers([asked], {self.client: kept})
        except Exception as error:
            return Reply(self.client, failure=reason(error))
        return reply

    def answer(self, asked: Mapping[str, Any], held: str, kept: ClientState) -> tuple[Reply, str]:
        """Return what the node answers in one phase of a secure sum, and what it must know in the
        next one; whatever goes wrong is in the reply.

        Args:
            asked: phase and message, the round and the size of its cohort; in phase "mask" also
                what `pack` returned at the server.
            held: what this returned in the phase before, in the same round; "" in the first.
            kept: as of `train`.
        """
        try:
            job, number, phase = self.job, asked["round"], asked["phase"]
            run = (job.secure, job.new_strategy(), job.plan.seed)
            party = Party(*run, self.client, number, asked["clients"])
            if held:
                party.restore(held)
            if phase == "mask":
                reply = self.train(number, asked, kept)
                reply = party.masked(asked["message"], reply, self._received(asked))
            else:
                reply = Reply(self.client, party.answer(phase, asked["message"]))
        except Exception as error:
            return Reply(self.client, failure=reason(error)), ""
        return reply, party.to_json()

    def evaluate(self, sent: Mapping[str, bytes]) -> dict[str, float]:
        """Return the metrics of the weights on the node's examples."""
        model, received = self.job.new_model(), self._received(sent)
        model.load_state_dict(received.weights | received.buffers)
        return dict(evaluate(model, self.reviews))

    def _received(self, sent: Mapping[str, bytes]) -> Received:
        """Return what came. Raises ValueError: the bytes are damaged, or of another model."""
        received = unpack(sent)
        self.job.require_fit(received.weights | received.buffers)
        return received


def as_csv(reviews: Iterable[Review], classes: Sequence[str] | None = None) -> bytes:
    """Return reviews as a CSV file, columns "text" and "label"; `classes` as in `write_reviews`."""
    names = ((r.text, r.label if classes is None else classes[r.label]) for r in reviews)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("text", "label"), *names])
    return text.getvalue().encode("utf-8", "ignore")


def write_reviews(
    folder: Path, owned: Iterable[Sequence[Review]], classes: Sequence[str] | None = None
) -> list[Path]:
    """Write the reviews of each node to a CSV file, columns "text" and "label": reviews0.csv, …

    Args:
        folder: made if it is not there. Raises FileExistsError: a file is, and holds another text.
        owned: the reviews of each node.
        classes: what they are called, by number, as in the job; None: their numbers are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for client, reviews in enumerate(owned):
        content = as_csv(reviews, classes)
        files.append(folder / f"reviews{client}.csv")
        if not files[-1].exists():
            aside = files[-1].with_suffix(".new")
            aside.write_bytes(content)
            aside.replace(files[-1])
        elif files[-1].read_bytes() != content:
            raise FileExistsError(f"{files[-1]}: holds something else, expected a new folder")
    return files
