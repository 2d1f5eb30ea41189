"""Whether all that a server learns of its clients goes through one mean of their changes."""

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Strategy


def require_nothing_beside(
    strategy: Strategy, weights: State, buffers: State, accounted: bool = False
) -> None:
    """Raise a ValueError where clients send whole weights or something beside the change, or the
    strategy aggregates in its own way, or there are buffers or weights that are no floating-point
    numbers: none of that would be protected with the changes.

    Args:
        weights, buffers: what the run moves, as `core.rounds.shared_weights` returns it.
        accounted: whether a strategy's own way to aggregate is protected, too.
    """
    kind = type(strategy).__name__
    whole = "'change': whole weights cannot be clipped"
    require(strategy.sends == "change", "strategy: sends", strategy.sends, whole)
    beside = sorted(strategy.extra_like(weights))
    nothing = f"nothing beside the change: {kind} would use it without noise or mask"
    require(not beside, "strategy: sends beside it", beside, nothing)
    own = type(strategy).aggregate is not Strategy.aggregate
    require(not own or accounted, "strategy", kind, "one that aggregates by nothing but its mean")
    expected = "a model without: their mean is taken without noise or mask"
    require(not buffers, "model: buffers", sorted(buffers), expected)
    odd = sorted(name for name, tensor in weights.items() if not tensor.is_floating_point())
    expected = "floating-point numbers, which can be clipped and protected"
    require(not odd, "model: weights", odd, expected)
