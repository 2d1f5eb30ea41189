"""How much of a sentence was read, in order."""

from collections.abc import Sequence


def rouge_l(reference: Sequence, found: Sequence) -> float:
    """Return ROUGE-L, from 0 to 1: the F1 of the longest words in common that stand in the same
    order in both, not necessarily side by side (Lin 2004, section 3; 1 for two that are equal).

    Args:
        reference: words, or their ids, as they were.
        found: as they were read.
    """
    row = [0] * (len(found) + 1)  # longest so far, by how many of `found` are looked at
    for word in reference:
        longer = [0]
        for k, other in enumerate(found):
            longer.append(row[k] + 1 if word == other else max(row[k + 1], longer[k]))
        row = longer
    return 2 * row[-1] / max(1, len(reference) + len(found))
