"""What a check says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Args:
        passed: whether the answer is right.
        message: what is right about it, or a hint that does not give the answer away.
        started: False while the exercise is still the stub.
    """

    passed: bool
    message: str
    started: bool = True

    def __repr__(self) -> str:
        mark = "✔" if self.passed else "✘ Look again:" if self.started else "… Not yet:"
        return f"{mark} {self.message}"

    def require(self) -> "Verdict":
        """Return the verdict if the answer is right. Raises AssertionError if it is not."""
        if not self.passed:
            raise AssertionError(repr(self))
        return self


def right(message: str) -> Verdict:
    """Return the verdict for a right answer; the message adds a thought."""
    return Verdict(True, message)


def wrong(hint: str) -> Verdict:
    """Return the verdict for a wrong answer; the hint says what was seen, and where to look."""
    return Verdict(False, hint)


def exercise(task: str) -> Callable:
    """Return a decorator for checks: None and ... are "not yet", and an exception is a hint.

    Args:
        task: one line that says what is asked, shown while the stub is unchanged.
    """

    def decorate(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
        @wraps(check)
        def checked(*answers: Any) -> Verdict:
            if any(answer is None or answer is ... for answer in answers):
                return Verdict(False, task, started=False)
            try:
                return check(*answers)
            except NotImplementedError:
                return Verdict(False, task, started=False)
            except Exception as error:
                return wrong(f"your answer raised {type(error).__name__}: {error}")

        return checked

    return decorate
