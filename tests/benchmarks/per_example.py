"""What gradients of single examples cost: python tests/benchmarks/per_example.py --hidden 16 64

A loop over the reviews of a batch, as in `privacy.per_example`, beside `torch.func`, which computes
all of them at once, padded to the longest. `vmap` has no batching rule for `nn.LSTM` and warns that
it goes through them one by one, so both are also given an LSTM that is written out step by step.
Medians of processor time in one thread, turn by turn, and how far apart the gradients are.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM

WORDS, SIZE, LONGEST = 1_000, 64, 64


class Steps(nn.Module):
    """What `nn.LSTM` computes with its weights, one step after the other."""

    def __init__(self, lstm: nn.LSTM):
        super().__init__()
        for name, weight in lstm.named_parameters():
            self.register_parameter(name, nn.Parameter(weight.detach().clone()))

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        known = inputs @ self.weight_ih_l0.T + self.bias_ih_l0 + self.bias_hh_l0  # (B, T, 4H)
        hidden = memory = torch.zeros_like(known[:, 0, : self.weight_hh_l0.shape[1]])
        outputs = []
        for step in known.unbind(1):
            gates = (step + hidden @ self.weight_hh_l0.T).chunk(4, 1)
            enter, forget, leave = (gates[place].sigmoid() for place in (0, 1, 3))
            memory = forget * memory + enter * gates[2].tanh()
            hidden = leave * memory.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1), None


def some_reviews(count: int) -> EncodedReviews:
    """Return reviews of random words and lengths, and labels."""
    rng = torch_rng(0)
    lengths = torch.randint(4, LONGEST + 1, (count,), generator=rng)
    tokens = torch.randint(2, WORDS, (count, LONGEST), generator=rng)
    inside = torch.arange(LONGEST) < lengths[:, None]
    return EncodedReviews(tokens * inside, lengths, torch.randint(2, (count,), generator=rng))


def by_loop(model: nn.Module, data: EncodedReviews) -> dict[str, Tensor]:
    """Return each weight's gradients, an example a row."""
    found = {name: [] for name, _ in model.named_parameters()}
    for place in range(len(data)):
        (example,) = data.subset([place]).batches(1)
        model.zero_grad()
        data.objective.loss(model(*example.inputs), example.targets).backward()
        for name, weight in model.named_parameters():
            found[name].append(weight.grad)
    return {name: torch.stack(rows) for name, rows in found.items()}


def by_func(model: nn.Module, data: EncodedReviews) -> dict[str, Tensor]:
    """Return the same by `torch.func`."""

    def loss(weights: dict[str, Tensor], tokens: Tensor, length: Tensor, label: Tensor) -> Tensor:
        outputs = functional_call(model, weights, (tokens[None], length[None]))
        return nn.functional.cross_entropy(outputs, label[None])

    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    (batch,) = data.batches(None)
    return vmap(grad(loss), (None, 0, 0, 0))(weights, *batch.inputs, batch.targets)


def timed(calls: Sequence[Callable], repeats: int) -> list[float]:
    """Return the median milliseconds of each call, having called all in turn, once before."""
    spent = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, times in zip(calls, spent, strict=True):
            began = time.process_time()
            call()
            times.append(1e3 * (time.process_time() - began))
    return [median(times[1:]) for times in spent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--reviews", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "There is a performance drop")
    data = some_reviews(chosen.reviews)
    vectors = torch.randn(WORDS, SIZE, generator=torch_rng(1))
    print("hidden  LSTM            loop    torch.func  ratio  largest difference")
    for hidden in chosen.hidden:
        for kind in ("nn.LSTM", "step by step"):
            model = PublicWordsLSTM(vectors, hidden, seed=0)
            model.recurrent = model.recurrent if kind == "nn.LSTM" else Steps(model.recurrent)
            ours, theirs = by_loop(model, data), by_func(model, data)
            apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
            assert ours.keys() == theirs.keys()
            assert apart < 1e-5
            loop, func = timed(
                [partial(by, model, data) for by in (by_loop, by_func)], chosen.repeats
            )
            times = f"{loop:8.1f} ms {func:10.1f} ms {func / loop:6.2f}"
            print(f"{hidden:6d}  {kind:12s} {times} {apart:19.0e}", flush=True)


if __name__ == "__main__":
    main()
