"""What a client makes of the weights it is given, with its own reviews."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedlab_helpers.core import rows
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, clone, of_model, to_device
from fedlab_helpers.core.training import Hooks, LocalConfig, evaluate, train
from fedlab_helpers.strategies.labels import class_shares
from fedlab_helpers.strategies.personal import OWN_SHARE, pull_towards


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
    """Return what a client's own training makes of the weights it starts from: from untrained
    ones this is training alone, from global ones fine-tuning.

    Args:
        model: gives architecture and device; it is left with the weights of the last epoch.
        start: weights of the whole model, of which a copy is taken.
        data: the client's training reviews, on the model's device.
        config: how it trains; each epoch begins with a new optimiser, as each round does.
        epochs: how many, in place of the config's; 0: the start is returned.
        validation: further reviews of the client: the epoch with the lowest loss on these is
            kept, the start among them; None: the last.
        trains: whether the parameter of this name is trained, if it is not frozen already.
        lam: weight of the pull (lam/2)·‖w - start‖², as a proximal step; infinite: no move.
        seed: decides order and dropout.
        stop: looked at between batches; once set, `Stopped` is raised.

    Raises:
        ValueError: `epochs` or `lam` is negative, or nothing is trained.
    """
    require(epochs >= 0, "epochs", epochs, "at least 0")
    require(lam >= 0, "lam", lam, "a number not below 0, or inf")
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}
    still = [parameter for name, parameter in free.items() if not trains(name)]
    require(len(still) < len(free), "trains", "no parameter", f"at least one of {[*free]}")
    start = to_device(clone(start), "cpu")  # a model's own state moves while it trains
    model.load_state_dict(start)
    hooks = Hooks(after=pull_towards(of_model(model), lam, config.lr)) if lam else None
    config, kept = replace(config, epochs=1), Tuned(start, 0)
    best = evaluate(model, validation).loss if validation else 0.0
    try:
        for parameter in still:
            parameter.requires_grad_(False)
        for epoch in range(1, epochs + 1):
            key = child_seed(seed, "epoch", epoch)
            train(model, data, config, seed=key, hooks=hooks, stop=stop)
            loss = evaluate(model, validation).loss if validation else 0.0
            if loss < best or not validation:
                best, kept = loss, Tuned(to_device(of_model(model), "cpu"), epoch)
    finally:
        for parameter in still:
            parameter.requires_grad_(True)
    return kept


def within(*blocks: str) -> Callable[[str], bool]:
    """Return whether a parameter is of one of these blocks; if none is named, all are."""
    return lambda name: not blocks or name.split(".")[0] in blocks


def mix(shared: Tensor, own: Tensor, share: float) -> Tensor:
    """Return probabilities (N, C) from the logits (N, C) of two models: `share` parts of the own
    one's, in [0, 1], the rest the shared one's (Mansour et al. 2020, arXiv:2002.10619, section 5).
    """
    require(0 <= share <= 1, "share", share, "a number from 0 to 1")
    fine = shared.dim() == 2 and shared.shape[1] > 1
    require(fine, "shared", tuple(shared.shape), "logits (N, C) of at least 2 classes")
    return (1 - share) * shared.softmax(1) + share * own.softmax(1)


def correct_priors(logits: Tensor, own_labels: Tensor, all_labels: Tensor) -> Tensor:
    """Return logits (N, C) moved by how much more often the client meets each class than others.

    Adds log(own share) - log(share among all), a count of 1 added to each: by Bayes' rule the
    right correction, if only the shares of the classes differ (Saerens et al. 2002,
    doi:10.1162/089976602753284446, equation 4). It is what a client can gain by its labels alone.
    Raises ValueError where the logits are not (N, C), as those of next words.
    """
    require(logits.dim() == 2, "logits", tuple(logits.shape), "(N, C), of one class an example")
    own, everybody = (class_shares(t, logits.shape[1]).log() for t in (own_labels, all_labels))
    return logits + own - everybody


def own_weights(shared: State, kept: ClientState, data: Examples, scored: bool = False) -> State:
    """Return the weights with which a client answers, from the global ones and what it keeps.

    Args:
        shared: weights of the whole model; those that are private as they were at first.
        kept: "private" parameters, and the "strategy" memory of Ditto or APFL; perhaps nothing.
            A memory that is no model, as SCAFFOLD's, or of another model, raises a ValueError.
        data: the client's training reviews: of word tables it keeps the rows of their words.
        scored: whether these rows also score words, as `rows.scores_tokens` says of a model.

    Raises:
        ValueError: the rows that are kept are not those of the data's words.
    """
    touched = rows.select(data.only_asked(), scored)[1]  # as its clients do
    own = dict(kept.get("strategy", {}))
    fine = not own or OWN_SHARE in own
    require(fine, "kept", sorted(own), "the memory of a strategy that keeps a model, as Ditto does")
    share = own.pop(OWN_SHARE, torch.ones((), dtype=torch.float32, device="cpu"))

    def put(base: State, part: State) -> State:
        require(part.keys() <= base.keys(), "kept", sorted(part), f"some of {sorted(base)}")
        for name, t in part.items():
            own = (len(touched), *base[name].shape[1:])
            more = f"whole, or {own}: as many rows as these examples touch, with scored={scored}"
            require(t.shape in (base[name].shape, own), f"kept: {name}", tuple(t.shape), more)
        return base | {
            name: t if t.shape == base[name].shape else base[name].index_copy(0, touched, t)
            for name, t in part.items()
        }

    weights = put(shared, kept.get("private", {}))
    whole = put(weights, own)
    for name in own:
        mine, theirs = whole[name], weights[name]
        mixable = mine.is_floating_point() or mine.is_complex()  # no counter
        if mixable and not torch.equal(mine, theirs):  # no mask
            whole[name] = (share * mine + (1 - share) * theirs).to(theirs.dtype)
    return clone(whole)
