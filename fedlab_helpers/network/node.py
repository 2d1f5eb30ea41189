"""What one machine does: train, and evaluate, on the reviews that it owns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedlab_helpers.core import wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState, Received, Reply, Request, Transform, reason
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.network.job import Job

PARTS = ("weights", "extra", "buffers")


def pack(received: Received) -> dict[str, bytes]:
    """Return what a server sends, as bytes: weights, what the strategy sends beside, buffers."""
    return dict(zip(PARTS, wire.encode_parts(received), strict=True))


def unpack(sent: Mapping[str, bytes]) -> Received:
    """Return what came from the server.

    Raises:
        WireError: the bytes are damaged.
    """
    return wire.decode_parts(sent[name] for name in PARTS)


@dataclass(frozen=True, eq=False)
class Node:
    """One client of a run, with its own examples.

    Args:
        job: what was agreed on.
        client: which client of the run this is; decides, with the run's seed, all that it draws.
        reviews: its own examples, of reviews encoded with the job's vocabulary.
        transforms: what its updates pass before they are encoded; the machine's own affair.
    """

    job: Job
    client: int
    reviews: Examples
    transforms: Sequence[Transform] = ()

    @classmethod
    def owning(cls, job: Job, client: int, path: str | Path) -> "Node":
        """Return the node that owns a file, for reviews a CSV with columns "text" and "label".

        Raises:
            ValueError: the file cannot be read as meant, or calls the classes otherwise.
        """
        return cls(job, client, job.examples(path))

    def train(self, number: int, sent: Mapping[str, bytes], kept: ClientState) -> Reply:
        """Return what the node answers in round `number`; whatever goes wrong is in it.

        Args:
            sent: what `pack` returned at the server.
            kept: what this client kept from earlier rounds.
        """
        try:
            received = unpack(sent)
            self.job.require_fit(received.weights | received.buffers)
            asked = Request(number, self.client, received)
            (reply,) = self._clients().answers([asked], {self.client: kept})
        except Exception as error:
            return Reply(self.client, failure=reason(error))
        return reply

    def evaluate(self, sent: Mapping[str, bytes]) -> dict[str, float]:
        """Return the metrics of the weights on the node's examples."""
        model = self.job.new_model()
        received = unpack(sent)
        weights = received.weights | received.buffers
        self.job.require_fit(weights)
        model.load_state_dict(weights)
        return dict(evaluate(model, self.reviews))

    def _clients(self) -> Clients:
        """Return the clients of the simulation, of which only this one has reviews here."""
        data = [()] * self.client + [self.reviews]
        plan = replace(self.job.plan, workers=1, dropout_rate=0.0, pace=None)
        parts = (self.job.new_strategy(), plan, self.job.new_codec(), self.transforms)
        return Clients(self.job.new_model(), data, *parts)
