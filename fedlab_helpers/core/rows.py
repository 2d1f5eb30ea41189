"""The embedding rows that a client's examples use: trained, sent and averaged, and no others.

A row whose word a client never saw gets no gradient, so leaving it out loses nothing, as long as
nothing else moves it. A client with 28 short texts touches some hundred rows of many thousand, and
steps on the others are most of a dense client's work. A model says which of its parameters is such
a table by `token_parameter`: row i is used for id i of the first input and for nothing else, or, of
a model with `scores_tokens`, also to score id i as the one that follows. Its clients then choose
among their own ids only: a slice of the model by the client's vocabulary (Charles et al. 2022,
arXiv:2208.09432, section 4).
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Codec, Update
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State


def sparse_table(
    model: nn.Module, shared: Callable[[str], bool], codec: Codec, decay: float, *parts: Any
) -> str | None:
    """Return the name of the table of which the touched rows are all that moves, if one is: the
    model's `token_parameter`, unless the codec sends tensors whole, or clients' weight decay or one
    of the parts, strategy or transform, that is `dense`, moves every row, or padding is another
    row than the first. Raises ValueError where there is no parameter of that name."""
    name = getattr(model, "token_parameter", None)
    known = [known for known, _ in model.named_parameters(remove_duplicate=False)]
    fine = name is None or name in known
    require(fine, "model: its token_parameter", name, f"one of {known}, or None")
    owners = [
        m
        for m in model.modules()
        if name and m._parameters.get("weight") is model.get_parameter(name)
    ]
    # Among the rows that are left, its place would be another word's, left untrained.
    padded = any(getattr(module, "padding_idx", None) for module in owners)
    # A second table that is sent, too, has other rows to train.
    second = getattr(model, "own_token_parameter", None)
    dense = decay or any(getattr(part, "dense", False) for part in parts)
    exact = codec.keeps_rows and not dense and not padded and not (second and shared(second))
    return name if name and exact and shared(name) else None


def copied(model: nn.Module, table: str | None, rows: slice | Tensor) -> nn.Module:
    """Return a copy of the model on the CPU with these rows of its table, if there is one; those of
    a slice are not copied, and share the table's memory."""
    held = model.get_parameter(table) if table else None
    few = {id(held): nn.Parameter(held.detach()[rows], held.requires_grad)} if table else {}
    return copy.deepcopy(model, few).cpu()


@torch.no_grad()
def require_lookup_only(model: nn.Module, table: str, data: Examples) -> None:
    """Raise ValueError unless the model answers a few examples alike from the touched rows only:
    a table that is used for something else too, as under a second name, must be trained whole."""
    scored = scores_tokens(model.eval())
    try:
        few, touched = select(data, scored)
        small = copied(model, table, touched)(*few.inputs)
        answer = model(*data.inputs)
        answer = answer[..., touched] if scored else answer
        same = torch.allclose(small, answer, rtol=1e-3, atol=1e-5, equal_nan=True)
    except Exception:  # whatever a model makes of a table with other rows
        same = False
    more = " and, with `scores_tokens`, to score these" if scored else ""
    used = f"a table used for nothing but to look up the ids of the first input{more}; or None"
    require(same, "model: its token_parameter", table, used)


def scores_tokens(model: nn.Module) -> bool:
    """Return whether the rows of the model's table of ids also score these ids."""
    return getattr(model, "scores_tokens", False)


def select(data: Examples, scored: bool = False) -> tuple[Examples, Tensor]:
    """Return the examples with the ids of their first input, (N, T) int64, counted within the rows
    they touch, and these rows: the ascending ids behind 0..k-1, (k,) int64, the first always 0, so
    that padding stays padding. Targets stay as they are, but where rows are `scored`: then the ids
    that are asked for are counted likewise, and touch their rows."""
    (tokens, *others), targets = data.inputs, data.targets
    asked = targets[targets >= 0] if scored else tokens.new_zeros(1)
    touched = torch.cat([tokens.new_zeros(1), tokens.flatten(), asked.flatten()]).unique()
    if scored:
        targets = targets.where(targets < 0, torch.searchsorted(touched, targets.clamp(min=0)))
    return data.of((torch.searchsorted(touched, tokens), *others), targets), touched


def load(model: nn.Module, state: State) -> None:
    """Copy a state into the model; a parameter whose number of rows differs is replaced."""
    for name, parameter in list(model.named_parameters()):
        if parameter.shape != state[name].shape:
            owner, _, leaf = name.rpartition(".")
            values = torch.empty_like(state[name], device=parameter.device)
            resized = nn.Parameter(values, requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(owner), leaf, resized)
    model.load_state_dict(state)


def make_whole(update: Update, like: State) -> Update:
    """Return the update with each row-sparse tensor written out, zeros in the untouched rows."""
    delta = dict(update.delta)
    for name, rows in update.touched_rows.items():
        delta[name] = torch.zeros_like(like[name]).index_copy_(0, rows, delta[name])
    return replace(update, delta=delta, touched_rows={})
