"""The personal methods by name, each with values worth trying of the one number it is tuned by."""

from fedlab_helpers.personal.federation import Method
from fedlab_helpers.personal.methods import afterwards
from fedlab_helpers.personal.methods.afterwards import Afterwards
from fedlab_helpers.personal.methods.clustered import Clustered
from fedlab_helpers.personal.methods.shared import Mixed, Shared
from fedlab_helpers.personal.methods.together import Together
from fedlab_helpers.strategies import fedavg
from fedlab_helpers.strategies.personal import APFL, Ditto, FedRep
from fedlab_helpers.tasks.reviews.model import OwnWordsLSTM

_RATES = (5e-4, 2e-3, 5e-3, 1e-2)
_ALONE = Afterwards("lr", (2e-3, 5e-3, 1e-2, 2e-2), epochs=8, base=afterwards.untrained)
_FEDREP = Together(lambda combine, _: FedRep(combine), ("head",), epochs=2)
_IFCA = Clustered()

# "leaning" is the correction of the priors, under the name that it has in the tables.
METHODS: dict[str, Method] = {
    "shared": Shared(),
    "leaning": Shared(corrected=True),
    "two_epochs": Afterwards("", (), epochs=0, base=lambda run, _: run.train_together(epochs=2)),
    "twice": Mixed(Shared(another=True)),
    "alone": _ALONE,
    "alone_mixed": Mixed(_ALONE),
    "tune_fixed": Afterwards("epochs", (1, 3, 5), stopped=False),
    "tune": Afterwards("lr", _RATES),
    "tune_pulled": Afterwards("lam", (1.0, 10.0, 100.0), lr=5e-3),
    "tune_head": Afterwards("lr", (2e-3, 1e-2, 5e-2, 0.1), ("head",)),
    "tune_recurrent": Afterwards("lr", _RATES, ("recurrent",)),
    "tune_embedding": Afterwards("lr", _RATES, ("embedding",)),
    "fedper": Together(private=("head",)),
    "fedper_recurrent": Together(private=("recurrent",)),
    "fedper_both": Together(private=("recurrent", "head")),
    # Row by row concerns the embedding only: where that is private, nothing else changes.
    "fedper_embedding": Together(lambda combine, _: fedavg(), ("embedding",)),
    "fedrep": _FEDREP,
    "fedrep_mixed": Mixed(_FEDREP),
    "own_words": Together(private=("own",), kind=OwnWordsLSTM),
    "ditto": Together(lambda combine, lam: Ditto(combine, lam=lam), tries=(0.1, 1.0, 10.0, 100.0)),
    "apfl": Together(
        lambda combine, alpha: APFL(combine, alpha=alpha), tries=(0.1, 0.25, 0.5, 0.75)
    ),
    "per_fedavg": Afterwards("", (0.01, 0.03, 0.1, 0.3), base=afterwards.per_fedavg),
    "reptile": Afterwards("", (0.5, 1.0, 1.5), base=afterwards.reptile),
    "ifca": _IFCA,
    "ifca_random": Clustered(warm=False),
    "ifca_mixed": Mixed(_IFCA),
}

__all__ = ["METHODS", "Method"]
