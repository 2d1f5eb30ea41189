"""A sentence by gradient matching, the way of most of the literature: words that would give it."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.require import require_count
from fedlab_helpers.core.state import State
from fedlab_helpers.privacy.leaks.certificate import Sentence, gives
from fedlab_helpers.privacy.leaks.updates import require_gradient
from fedlab_helpers.privacy.leaks.words import touched

_LR = 0.3  # of Adam on the logits of the words
_UNDECIDED = 0.1  # standard deviation of the logits at the start
_TINY = 1e-150  # a norm below which there is no direction; rows of words far back are small


def match(
    model: nn.Module, gradient: State, length: int, *, steps: int = 150, seed: int = 0
) -> Sentence:
    """Return the sentence whose gradient comes closest, as descent finds it.

    At each place stands a mixture of the touched words, which descends the distance between its
    gradient and the one seen: 1 - cosine, summed over the tensors, and averaged over the rows of
    the embedding; the likeliest word of each mixture is taken in the end.

    Zhu, Liu & Han 2019 (arXiv:1906.08935, Algorithm 1), with the cosine of Geiping et al. 2020
    (arXiv:2003.14053, equation 4).

    Args:
        model: as it was when the gradient was taken, without dropout: `embedding`, a recurrent
            layer `recurrent` whose outputs are (B, T, H), `pooling` "last" or "mean", and `head`.
        gradient: of the model's parameters, by name, or a positive multiple of it.
        length: how many words the sentence has, which this attack must be told.
        steps: of Adam.
        seed: of where they begin.

    Raises:
        ValueError: `require_gradient` refuses the gradient; a count is below 1.
    """
    require_count(length=length, steps=steps)
    require_gradient(model, gradient)
    words, label = touched(gradient["embedding.weight"]), int(gradient["head.bias"].argmin())
    # In double precision, torch's recurrent layers can be differentiated twice on a CPU.
    mixed = copy.deepcopy(model).double().eval()
    goal = {name: tensor.double() for name, tensor in gradient.items()}
    goal["embedding.weight"] = goal["embedding.weight"][words]
    start = torch.randn(length, len(words), generator=torch_rng(seed), dtype=torch.float64)
    logits = (_UNDECIDED * start).requires_grad_()
    adam = torch.optim.Adam([logits], lr=_LR)
    for _ in range(steps):
        adam.zero_grad()
        given = _gradient_of_mixture(mixed, logits.softmax(1), words, label)
        _distance(given, goal).backward(inputs=[logits])
        adam.step()
    found = Sentence(tuple(words[logits.argmax(1)].tolist()), label, False)
    return replace(found, certified=gives(model, [found], gradient))


def _gradient_of_mixture(model: nn.Module, shares: Tensor, words: Tensor, label: int) -> State:
    """Return the gradient as a function of the shares of the words, (T, n)."""
    weights = dict(model.named_parameters())
    table = weights.pop("embedding.weight").detach()[words].requires_grad_()
    outputs, _ = model.recurrent((shares @ table)[None])
    pooled = outputs[:, -1] if model.pooling == "last" else outputs.mean(1)
    loss = cross_entropy(model.head(pooled), torch.tensor([label]))
    found = torch.autograd.grad(loss, [table, *weights.values()], create_graph=True)
    return dict(zip(["embedding.weight", *weights], found, strict=True))


def _distance(given: State, goal: State) -> Tensor:
    far = []
    for name, seen in goal.items():
        rows = len(seen) if name == "embedding.weight" else 1
        pair = given[name].reshape(rows, -1), seen.reshape(rows, -1)
        far.append(1 - cosine_similarity(*pair, eps=_TINY).mean())
    return torch.stack(far).sum()
