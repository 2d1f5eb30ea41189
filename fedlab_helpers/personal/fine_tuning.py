"""What a client makes of the weights it is given, with its own reviews."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from fedlab_helpers.core import rows
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.state import State, of_model, to_device
from fedlab_helpers.core.training import Hooks, LocalConfig, evaluate, train
from fedlab_helpers.strategies.labels import class_shares
from fedlab_helpers.strategies.personal import OWN_SHARE, pull_towards

SHARES = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, eq=False)
class Tuned:
    """A client's own weights, on the CPU, and after how many epochs of its own they were kept."""

    weights: State
    epochs: int


def fine_tune(
    model: nn.Module,
    start: State,
    data: Examples,
    config: LocalConfig,
    epochs: int,
    *,
    validation: Examples | None = None,
    trains: Callable[[str], bool] = lambda name: True,
    lam: float = 0.0,
    seed: int = 0,
    stop: threading.Event | None = None,
) -> Tuned:
    """Return what a client's own training makes of the weights it starts from.

    From untrained weights this is training alone; from global ones it is fine-tuning.

    Args:
        model: gives architecture and device; it is left with the weights of the last epoch.
        start: weights of the whole model; not changed.
        data: the client's training reviews, on the model's device.
        config: how it trains; each epoch begins with a new optimiser, as each round does.
        epochs: how many, in place of the config's; 0: the start is returned.
        validation: further reviews of the client: the epoch with the lowest loss on these is
            kept, the start among them; None: the last.
        trains: whether the parameter of this name is trained; the others stay, as do those that
            are frozen already.
        lam: weight of the pull (lam/2)·‖w - start‖², as a proximal step; infinite: no move.
        seed: decides order and dropout.
        stop: looked at between batches.

    Raises:
        Stopped: `stop` was set.
        ValueError: `epochs` or `lam` is negative, or nothing is trained.
    """
    if epochs < 0 or not lam >= 0:
        raise ValueError(f"epochs, lam: got {epochs!r} and {lam!r}, expected them not below 0")
    free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not any(map(trains, free)):
        raise ValueError(f"trains: no parameter is; expected at least one of {free}")
    model.load_state_dict(start)
    hooks = Hooks(after=pull_towards(of_model(model), lam, config.lr)) if lam else None
    config, kept = replace(config, epochs=1), Tuned(start, 0)
    best = evaluate(model, validation).loss if validation else 0.0
    with _training_only(model, trains):
        for epoch in range(1, epochs + 1):
            key = child_seed(seed, "epoch", epoch)
            train(model, data, config, seed=key, hooks=hooks, stop=stop)
            loss = evaluate(model, validation).loss if validation else 0.0
            if loss < best or not validation:
                best, kept = loss, Tuned(to_device(of_model(model), "cpu"), epoch)
    return kept


@contextmanager
def _training_only(model: nn.Module, trains: Callable[[str], bool]) -> Iterator[None]:
    """Switch off the gradients of what is not trained, and back on those that were on."""
    named = model.named_parameters()
    still = [p for name, p in named if p.requires_grad and not trains(name)]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def mix(shared: Tensor, own: Tensor, share: float) -> Tensor:
    """Return probabilities (N, C): `share` parts of the own model's answers, the rest the shared.

    Model interpolation: Mansour et al. 2020, arXiv:2002.10619, section 5.

    Args:
        shared: logits (N, C) of the shared model.
        own: logits (N, C) of the client's own.
        share: 0: the shared model; 1: the own.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: got {share!r}, expected a number from 0 to 1")
    return (1 - share) * shared.softmax(1) + share * own.softmax(1)


def loss_of_mix(shared: Tensor, own: Tensor, labels: Tensor, share: float) -> float:
    """Return the mean loss in nats of `mix`, for labels (N,) int64."""
    return float(nll_loss(mix(shared, own, share).log(), labels))


def correct_priors(logits: Tensor, own_labels: Tensor, all_labels: Tensor) -> Tensor:
    """Return logits (N, C) moved by how much more often the client meets each class than others.

    Adds log(own share) - log(share among all), a count of 1 added to each: by Bayes' rule the
    right correction, if only the shares of the classes differ (Saerens et al. 2002,
    doi:10.1162/089976602753284446, equation 4). It is what a client can gain by its labels alone.
    """
    own, everybody = (class_shares(t, logits.shape[1]).log() for t in (own_labels, all_labels))
    return logits + own - everybody


def own_weights(shared: State, kept: ClientState, data: Examples) -> State:
    """Return the weights with which a client answers, from the global ones and what it keeps.

    Args:
        shared: weights of the whole model; those that are private as they were at first.
        kept: "private" parameters, and the "strategy" memory of Ditto or APFL; perhaps nothing.
        data: the client's training reviews: of word tables it keeps the rows of their words.

    Raises:
        ValueError: the strategy's memory is no model, as SCAFFOLD's and FedDyn's, which are
            gradients; or it is one of another model.
    """
    touched = rows.select(data.only_asked())[1]  # as its clients do

    def put(base: State, part: State) -> State:
        if odd := sorted(part.keys() - base.keys()):
            raise ValueError(f"kept: {odd} are not in the model, which has {sorted(base)}")
        whole = dict(base)
        for name, tensor in part.items():
            fits = tensor.shape == base[name].shape
            whole[name] = tensor if fits else base[name].index_copy(0, touched, tensor)
        return whole

    weights = put(shared, kept.get("private", {}))
    own = dict(kept.get("strategy", {}))
    if own and OWN_SHARE not in own:
        raise ValueError(
            f"kept: the strategy's memory, {sorted(own)}, is no model of the client's own; "
            "expected that of a strategy that keeps one, such as Ditto or APFL"
        )
    share = own.pop(OWN_SHARE, torch.ones((), dtype=torch.float32, device="cpu"))
    whole = put(weights, own)
    mixed = {name: share * whole[name] + (1 - share) * weights[name] for name in weights}
    return {n: t.to(shared[n].dtype) for n, t in mixed.items()}
