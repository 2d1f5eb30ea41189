"""Whether an LSTM that reads reviews gains by open forget gates (Jozefowicz et al. 2015).

Models are trained in one place as those of `baselines` are, all at the same learning rate.
"""

from fedlab_helpers.core.training import evaluate
from fedlab_helpers.studies.baselines import trained
from fedlab_helpers.studies.long_memory import open_forget_gates
from fedlab_helpers.studies.study import Row, Settings, Study, grid, right_answers, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

LONG = 50  # words, from which a review counts as long: 30% of the test reviews


def measure_gates(settings: Settings) -> list[Row]:
    """Return how well one model does on all test reviews, and on the long ones, after that of six
    epochs that did best on the validation reviews."""
    seed, data = settings["seed"], task()
    model = SentimentLSTM(len(data.vocab), pooling=settings["pooling"], dropout=0.3, seed=seed)
    open_forget_gates(model, settings["bias"])
    model, best, chosen = trained(model, settings["lr"], seed)
    long = right_answers(model)[(data.test.lengths >= LONG).numpy()]
    return [
        {
            **evaluate(model, data.test),
            "long_accuracy": float(long.mean()),
            "validation_accuracy": best,
            "epochs": chosen,
        }
    ]


OPEN_GATES = Study(
    "open_gates",
    grid(seed=range(3), pooling=["last", "mean"], bias=[0, 1, 2], lr=[5e-3]),
    measure_gates,
)
