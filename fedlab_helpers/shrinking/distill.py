"""Knowledge distillation: a small model learns from what a large one answers."""

from torch import Tensor, nn

from fedlab_helpers.core.require import require, require_positive
from fedlab_helpers.core.training import Hooks, predict
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities of logits divided by a temperature, (N, C): the higher, the more
    they tell of the answers that were not given."""
    require_positive(temperature=temperature)
    _require_classes(logits)
    return (logits / temperature).softmax(1)


def _require_classes(logits: Tensor) -> None:
    fine = logits.dim() == 2 and logits.shape[1] > 1
    require(fine, "logits", tuple(logits.shape), "(N, C) of at least 2 classes")


def taught(
    reviews: EncodedReviews, logits: Tensor, temperature: float = 2.0, trust: float = 0.7
) -> EncodedReviews:
    """Return the reviews with the teacher's answers for labels.

    Hinton et al. 2015, arXiv:1503.02531, section 2. The loss of the paper is a sum of two cross
    entropies; cross entropy is linear in its target, so one with the mixed target is the same
    where both are taken at the same temperature.

    Args:
        reviews: with labels (N,), or with none that are used, where `trust` is 1.
        logits: of the teacher, (N, C).
        temperature: above 0; the student's logits are divided by it, too: `cooled`.
        trust: share of the teacher in the target, in [0, 1]; the rest is the label.
    """
    require(0 <= trust <= 1, "trust", trust, "a number in [0, 1]")
    target = softened(logits, temperature)
    if trust < 1:
        hard = nn.functional.one_hot(reviews.labels, logits.shape[1]).to(target.dtype)
        target = trust * target + (1 - trust) * hard
    return reviews.with_targets(target)


def cooled(temperature: float) -> Hooks:
    """Return the hook under which a student is trained at a temperature; the loss is multiplied by
    its square, so that the teacher's part of a gradient stays as large (section 2 there). That of
    labels, which shrinks with the temperature only once, grows by it."""
    require_positive(temperature=temperature)
    return Hooks(
        logits=lambda logits: logits / temperature,
        loss=lambda model, loss: loss * temperature**2,
    )


def agreement(model: nn.Module, teacher_logits: Tensor, reviews: EncodedReviews) -> float:
    """Return the share of reviews that both answer alike. Raises ValueError unless these logits are
    (N, C)."""
    _require_classes(teacher_logits)
    return float((predict(model, reviews).argmax(1) == teacher_logits.argmax(1)).double().mean())
