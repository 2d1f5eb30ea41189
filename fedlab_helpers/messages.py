"""What passes between server and clients, as values."""

from dataclasses import dataclass, field

from fedlab_helpers.state import State
from fedlab_helpers.updates import ClientState


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


def reason(error: Exception) -> str:
    """Return why a client is left out; cut, for a hostile payload can make the message long."""
    return f"{type(error).__name__}: {error}"[:500]
