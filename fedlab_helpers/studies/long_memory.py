"""How far back recurrent cells remember: name the first symbol of a sequence after its last.

A classification form of the latching problem of Bengio, Simard and Frasconi 1994
(doi:10.1109/72.279181): what matters comes first, everything after it is noise.
"""

from itertools import count

import torch
from torch import nn

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.require import require_count
from fedlab_helpers.core.training import Hooks, LocalConfig, evaluate, train
from fedlab_helpers.studies.study import Row, Settings, Study, grid
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CLASSES, NOISE = 4, 8  # ids 2 to 5 are answers, 6 to 13 noise; 0 and 1 keep their meaning
TRAINING, TEST = 6_400, 2_000


def sequences(n: int, length: int, generator: torch.Generator) -> EncodedReviews:
    """Return n sequences whose first id names their class, followed by noise.

    Args:
        length: symbols in each sequence, the first included.

    Raises:
        ValueError: `n` or `length` is below 1.
    """
    require_count(n=n, length=length)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    tokens = torch.randint(NOISE, (n, length), generator=generator) + 2 + CLASSES
    tokens[:, 0] = labels + 2
    return EncodedReviews(tokens, torch.full((n,), length), labels)


def reader(cell: str, seed: int) -> SentimentLSTM:
    """Return a small untrained classifier.

    Args:
        cell: "rnn", "gru", "lstm", or "lstm_open": an LSTM whose forget gates start open, their
            bias raised by 2 (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    kind = "lstm" if cell == "lstm_open" else cell
    model = SentimentLSTM(2 + CLASSES + NOISE, 16, 32, CLASSES, cell=kind, seed=seed)
    return open_forget_gates(model, 2) if cell == "lstm_open" else model


def open_forget_gates(model: SentimentLSTM, bias: float) -> SentimentLSTM:
    """Return the model, an LSTM, with this added to the bias of its forget gates."""
    size = model.recurrent.hidden_size
    with torch.no_grad():  # gates i, f, g, o lie one after the other
        model.recurrent.bias_ih_l0[size : 2 * size] += bias
    return model


def reach(model: SentimentLSTM, data: EncodedReviews) -> float:
    """Return how long the loss's gradient at the first word is beside that at the last, each the
    mean over sequences of one length."""
    read = model.embedding(data.tokens).detach().requires_grad_()  # (N, T, E)
    logits = model.head(model.recurrent(read)[0][:, -1])  # (N, C)
    nn.functional.cross_entropy(logits, data.labels).backward()
    sizes = read.grad.norm(dim=2).mean(dim=0)  # (T,)
    return float(sizes[0] / sizes[-1])


def _begin(
    settings: Settings,
) -> tuple[SentimentLSTM, LocalConfig, EncodedReviews, EncodedReviews, EncodedReviews]:
    seed, length = settings["seed"], settings["length"]
    rng = torch_rng(seed, "long_memory", length)
    config = LocalConfig(settings["epochs"], batch_size=64, lr=settings["lr"])
    data = (sequences(n, length, rng) for n in (TRAINING, TEST, TEST))
    return reader(settings["cell"], seed), config, *data


def measure_memory(settings: Settings) -> list[Row]:
    """Return the accuracy on fresh sequences after training at one length."""
    model, config, data, validation, test = _begin(settings)
    report = train(model, data, config, seed=settings["seed"])
    return [
        {
            "steps": report.steps,
            "train_loss": report.losses[-1],
            "validation_accuracy": evaluate(model, validation).accuracy,
            "accuracy": evaluate(model, test).accuracy,
        }
    ]


def measure_reach(settings: Settings) -> list[Row]:
    """Return how far the gradient reaches, and the accuracy, before and in such a training."""
    model, config, data, validation, test = _begin(settings)
    some = validation.subset(range(200))
    steps, rows = count(), []

    def look(model: SentimentLSTM) -> None:
        if (step := next(steps)) % 50 == 0:
            found = {"reach": reach(model, some), "accuracy": evaluate(model, test).accuracy}
            rows.append({"step": step, **found})

    look(model)
    train(model, data, config, seed=settings["seed"], hooks=Hooks(after=look))
    return rows


LONG_MEMORY = Study(
    "long_memory",
    grid(
        seed=range(3),
        length=(5, 10, 20, 40, 80),
        cell=("rnn", "gru", "lstm", "lstm_open"),
        lr=(1e-3, 3e-3, 1e-2),
        epochs=[8],
    ),
    measure_memory,
)
REACH = Study(
    "reach",
    grid(
        seed=range(3), length=[20], cell=("rnn", "gru", "lstm", "lstm_open"), lr=[1e-2], epochs=[8]
    ),
    measure_reach,
)
