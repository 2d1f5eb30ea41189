"""What passes between server and clients, as values, and who answers."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedlab_helpers.core.state import State
from fedlab_helpers.core.updates import ClientState, Codec


@dataclass(frozen=True, eq=False)
class Received:
    """What the server sent to each client of a cohort, as decoded: weights, and what the strategy
    sends beside them."""

    weights: State
    extra: State = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Request:
    """What one client is asked to do: train from what it received.

    Args:
        number: of the round; decides, with the run's seed and the client, all that is drawn.
        client: whom.
        received: what the server sent it.
    """

    number: int
    client: int
    received: Received


@dataclass(frozen=True, eq=False)
class Reply:
    """What comes back from one client: bytes and what it keeps, or why nothing came."""

    client: int
    payload: bytes = b""
    kept: ClientState = field(default_factory=dict)
    failure: str | None = None


class Crew(Protocol):
    """Who answers in a federated run: `Clients`, or machines elsewhere.

    Args:
        codec: how updates become bytes.
        shared: whether the parameter of this name is sent and averaged.
        size: how many clients there are.
    """

    codec: Codec
    shared: Callable[[str], bool]
    size: int

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the reply of each client of round `number`, in cohort order."""

    def accepted(self, number: int, clients: Iterable[int]) -> None:
        """Be told whose updates of round `number` are in the mean."""

    def sparse_parameter(self) -> str | None:
        """Return the parameter of which clients train the touched rows only, if any."""

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of a run with these clients."""


def reason(error: Exception) -> str:
    """Return why a client is left out; cut, for a hostile payload can make the message long."""
    return f"{type(error).__name__}: {error}"[:500]
