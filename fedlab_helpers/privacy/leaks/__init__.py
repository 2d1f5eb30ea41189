"""What an update tells of the examples behind it: words, sentences, membership, secrets.

Taught on reviews that are public, so that whoever builds such a system knows what it must protect.
"""

from fedlab_helpers.privacy.leaks.canary import exposure
from fedlab_helpers.privacy.leaks.certificate import Sentence, gives
from fedlab_helpers.privacy.leaks.dominoes import Chains, Dominoes, Table, dominoes
from fedlab_helpers.privacy.leaks.gate import shut
from fedlab_helpers.privacy.leaks.known_vectors import alike, outside, with_table
from fedlab_helpers.privacy.leaks.matching import match
from fedlab_helpers.privacy.leaks.membership import (
    auc,
    confidence,
    likelihood_ratio,
    touched_share,
    true_positives,
)
from fedlab_helpers.privacy.leaks.rouge import rouge_l
from fedlab_helpers.privacy.leaks.sentences import LONGEST, attempt, explain, read
from fedlab_helpers.privacy.leaks.sight import seen
from fedlab_helpers.privacy.leaks.updates import gradient_behind, gradient_of
from fedlab_helpers.privacy.leaks.words import clock, touched

__all__ = [
    "LONGEST", "Chains", "Dominoes", "Sentence", "Table", "alike", "attempt", "auc", "clock",
    "confidence", "dominoes", "explain", "exposure", "gives", "gradient_behind", "gradient_of",
    "likelihood_ratio", "match", "outside", "read", "rouge_l", "seen", "shut", "touched",
    "touched_share", "true_positives", "with_table",
]  # fmt: skip
