"""How long a round waits for the answers of its nodes."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

FIRST = 900.0  # seconds that are waited for the very first answer
SILENCE = 60.0, 12  # as `FLOOR` and `FACTOR`, while nobody has answered in a round yet
FLOOR = 20.0  # the least that is waited once somebody has
FACTOR = 3  # how many times longer than the slowest who answered
ROUNDS = 5  # rounds whose answers count
LATE = 2  # how often the wait is doubled for a node that was late


@dataclass(eq=False)
class Deadline:
    """A deadline found from how long nodes take, so that it holds on a slow machine, too.

    Until the very first answer the server waits 15 minutes. Then the others have three times as
    long as the slowest answer of the last rounds and of this one, and 20 s at least. While nobody
    has answered in a round, it may be the network, or all have become slow: twelve times as long,
    and a minute at least. A node that is late is given twice the time when it is asked again,
    and then four times. All this is for one kind of work. For nodes that take longer by nature,
    give a `fixed` time.

    Args:
        fixed: seconds; None: found as above.
    """

    fixed: float | None = None
    slowest: deque[float] = field(default_factory=lambda: deque([0.0], ROUNDS), init=False)
    late: dict[int, int] = field(default_factory=dict, init=False)  # node -> how often in a row
    heard: bool = field(default=False, init=False)  # whether anybody has answered in this round

    def seconds(self, nodes: Collection[int]) -> float:
        """Return how many seconds after it was asked the last of these nodes may answer, which have
        not yet."""
        if self.fixed is not None:
            return self.fixed
        slowest = max(self.slowest)
        if not self.heard:
            least, factor = SILENCE
            return min(FIRST, max(least, factor * slowest)) if slowest else FIRST
        wait = max(FLOOR, FACTOR * slowest)
        return wait * 2 ** max((self.late.get(node, 0) for node in nodes), default=0)

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
