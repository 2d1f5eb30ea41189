"""What every test of an exercise's check asks of its verdicts."""


def refused(verdict, *words: str) -> None:
    """Require a verdict that is wrong, not "not yet", and whose hint holds these words."""
    assert verdict.started
    assert not verdict.passed
    for word in words:
        assert word in verdict.message, verdict.message


def not_yet(*checks, functions=()) -> None:
    """Require "not yet" of each check for a blank answer; of `functions` also for a stub."""

    def stub(*_):
        raise NotImplementedError

    for check in (*checks, *functions):
        for answer in (None, ...):
            verdict = check(answer)
            assert not verdict.started, check
            assert not verdict.passed, check
    for check in functions:
        assert not check(stub).started, check
