"""What a check says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch


class Hint(Exception):
    """Says what is odd about an answer; a check that raises it shows it as its hint."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    passed: bool  # whether the answer is right
    message: str  # what is right about it, or a hint that does not give the answer away
    started: bool = True  # False while the exercise is still the stub

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


def near(got: Any, value: Any, rel: float = 1e-5) -> bool:
    """Return whether numbers, arrays or tensors are alike but for a share `rel`, and rounding."""
    got, value = (torch.as_tensor(each).detach().double() for each in (got, value))
    return got.shape == value.shape and torch.allclose(got, value, rtol=rel, atol=1e-5)


def whole(got: Any) -> int | None:
    """Return a whole number of Python, NumPy or PyTorch as an int; None if it is no such thing."""
    try:
        value = got.item() if hasattr(got, "item") else got
        is_whole = not isinstance(value, (bool, str)) and value == int(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return int(value) if is_whole else None


def tensor(got: Any, expected: str = "numbers") -> torch.Tensor:
    """Return numbers of Python, NumPy or PyTorch, also nested lists of them, as a float64 tensor.
    Raises Hint: they are none, or not what the hint says is expected."""
    if got is None:
        raise Hint("the function returned None; does it end with `return`?")
    try:
        if isinstance(got, (list, tuple)) and got:
            return torch.stack([tensor(part, expected) for part in got])
        known = isinstance(got, torch.Tensor)
        return (got if known else torch.as_tensor(np.array(got))).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise Hint(f"expected {expected}, got {type(got).__name__}: {got!r:.80}") from None


def number(got: Any) -> float:
    """Return one number of Python, NumPy or PyTorch as a float. Raises Hint: it is none."""
    value = tensor(got, "a number")
    if value.numel() != 1:
        raise Hint(f"expected one number, got {value.numel()} of them: {got!r:.80}")
    return value.item()


def slip(got: Any, slips: Mapping[str, Any], rel: float = 1e-5) -> str | None:
    """Return the first of these hints whose value, where a slip leads, is `near`; None: none."""
    return next((hint for hint, value in slips.items() if near(got, value, rel)), None)


def told_apart(
    function: Callable[[Any], bool],
    cases: Mapping[str, tuple[Any, bool]],
    passed: str,
    refused: str,
) -> Verdict | None:
    """Return what is wrong with a function that says True or False of each case; None: nothing.

    Args:
        cases: name -> what the function is given, and what it is to say.
        passed, refused: hints for a True, and for a False, where the other was due.
    """
    for name, (given, expected) in cases.items():
        got = function(given)
        got = got.item() if hasattr(got, "item") else got
        if not isinstance(got, bool):
            return wrong(f"return True or False; for {name} you returned {got!r}.")
        if got != expected:
            return wrong(f"you say {got} of {name}. {passed if got else refused}")
    return None


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
            except Hint as hint:
                return wrong(str(hint))
            except Exception as error:
                if isinstance(error, NotImplementedError) and not error.args:  # PyTorch's have some
                    return Verdict(False, task, started=False)
                return wrong(f"your answer raised {type(error).__name__}: {error}")

        return checked

    return decorate
