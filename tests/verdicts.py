"""What every test of an exercise's check asks of its verdicts."""


def refused(verdict, *words: str) -> None:
    """Require a verdict that is wrong, not "not yet", and whose hint holds these words."""
    assert verdict.started
    assert not verdict.passed
    for word in words:
        assert word in verdict.message, verdict.message
