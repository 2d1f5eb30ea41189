"""How long a round waits for the answers of its nodes."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

FIRST = 900.0  # seconds that are waited while nobody has answered yet
FLOOR = 20.0  # the least that is waited once somebody has
FACTOR = 3  # how many times longer than the slowest who answered
ROUNDS = 5  # rounds whose answers count
LATE = 2  # how often the wait is doubled for a node that was late


@dataclass(eq=False)
class Deadline:
    """A deadline found from how long nodes take, so that it holds on a slow machine, too.

    Nobody is late before somebody was there. Once one has answered, the others have three times as
    long as the slowest answer of the last rounds and of this one, and 20 s at least. A node that is
    late is given twice the time when it is asked again, and then four times; a slow one that would
    always be late is then heard. All this is for one kind of work.

    Args:
        fixed: seconds; None: found as above.
    """

    fixed: float | None = None
    slowest: deque[float] = field(default_factory=lambda: deque([0.0], ROUNDS), init=False)
    late: dict[int, int] = field(default_factory=dict, init=False)  # node -> how often in a row
    heard: bool = field(default=False, init=False)  # whether anybody has answered in this round

    def seconds(self, nodes: Collection[int]) -> float:
        """Return how many seconds after it was asked the last of these nodes may answer."""
        if self.fixed is not None:
            return self.fixed
        if not self.heard:
            return FIRST
        most = max((self.late.get(node, 0) for node in nodes), default=0)
        return max(FLOOR, FACTOR * max(self.slowest)) * 2**most

    def answered(self, node: int, seconds: float) -> None:
        """Be told that a node has answered, after so many seconds."""
        self.heard = True
        self.late.pop(node, None)
        self.slowest[-1] = max(self.slowest[-1], seconds)

    def missed(self, nodes: Collection[int]) -> None:
        """Be told that a round is over, and who did not answer in it."""
        for node in nodes:
            self.late[node] = min(self.late.get(node, 0) + 1, LATE)
        self.slowest.append(0.0)
        self.heard = False
