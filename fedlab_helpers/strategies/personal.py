"""Federated training in which every client comes out with a model of its own.

FedPer needs no strategy: it is any of them with `shared=keep_private("head")`, so that the other
parameters are averaged and these stay where they are. What a client keeps beside that is its
"strategy" memory, which travels by client id.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedlab_helpers.core import rows
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require, require_count, require_positive
from fedlab_helpers.core.state import State, of_model, to_device
from fedlab_helpers.core.strategy import LocalRun, Strategy
from fedlab_helpers.core.training import Hooks, LocalConfig, train

# Beside an own model in a client's memory: how much it counts, as no parameter can be called.
OWN_SHARE = ".alpha"


def keep_private(*blocks: str) -> Callable[[str], bool]:
    """Return the mask `shared` under which all parameters but those of these blocks are sent.

    Arivazhagan et al. 2019, arXiv:1912.00818 (FedPer), keep the last layers. The record's metrics
    are of no client's model then: `own_weights` gives each client's.

    Args:
        blocks: modules or parameters of the model, such as "head", "recurrent" or "head.bias"; a
            run refuses those that it does not have.
    """
    return _AllBut(blocks)


@dataclass(frozen=True)
class _AllBut:
    blocks: tuple[str, ...]

    def __call__(self, name: str) -> bool:
        return not any(f"{name}.".startswith(f"{block}.") for block in self.blocks)

    def require_fit(self, names: Iterable[str]) -> None:
        """Raise a ValueError that names the blocks in which no parameter of these names is."""
        names = sorted(names)
        odd = [block for block in self.blocks if all(map(_AllBut((block,)), names))]
        require(not odd, "keep_private", odd, f"modules or parameters of the model: {names}")


@dataclass(frozen=True)
class FedRep(Strategy):
    """Each client first fits its private part to the received one, and only then trains that.

    Collins et al. 2021, arXiv:2102.07078, Algorithm 1. Of a client's local epochs, the first
    `head_epochs` move what is private (see `rounds`, `shared`), the others what is not.
    """

    head_epochs: int = 1

    def __post_init__(self):
        super().__post_init__()
        require_count(head_epochs=self.head_epochs)

    def begin(self, run: LocalRun) -> Hooks:
        epochs = run.config.epochs
        expected = f"more than the {self.head_epochs} that train the private part"
        require(epochs > self.head_epochs, "epochs", epochs, expected)
        each = run.config.steps(len(run.data)) // epochs
        steps, first = 0, self.head_epochs * each

        def keep_still(model: nn.Module) -> None:
            nonlocal steps
            for name, parameter in model.named_parameters():
                if (name in run.weights) == (steps < first):
                    parameter.grad = None
            steps += 1

        return Hooks(gradients=keep_still)


@dataclass(frozen=True)
class PerFedAvg(Strategy):
    """FedAvg that looks for weights from which one step of a client's own goes far.

    Fallah et al. 2020, arXiv:2002.07948, Algorithm 1, the first-order variant: of each two
    batches, the first takes a trial step of plain SGD at rate `alpha`; the gradient of the second
    is taken there, and applied to the weights before the trial. The trial's gradient is not
    clipped. A last batch without a partner takes a usual step.
    """

    alpha: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require_positive(alpha=self.alpha)

    def begin(self, run: LocalRun) -> Hooks:
        whole = run.steps or run.config.steps(len(run.data))
        step, before = 0, []

        @torch.no_grad()
        def look_ahead(model: nn.Module) -> None:
            nonlocal step
            step += 1
            if step % 2 == 0:
                for parameter, value in before:
                    parameter.copy_(value)
            elif step < whole:
                moving = [p for p in model.parameters() if p.grad is not None]  # none if frozen
                before[:] = [(parameter, parameter.clone()) for parameter in moving]
                for parameter in moving:
                    parameter -= self.alpha * parameter.grad
                    parameter.grad = None  # the optimiser leaves it alone

        return Hooks(gradients=look_ahead)


@dataclass(frozen=True)
class Ditto(Strategy):
    """FedAvg, and beside it a model of each client's own that is pulled towards the global one.

    Li et al. 2021, arXiv:2012.04221, Algorithm 1: a client that takes part also trains its own
    model v on F_k(v) + (λ/2)·‖v - w‖², where w are the weights it received. The pull is taken as a
    proximal step, v ← (v + ηλw) / (1 + ηλ) after each step at rate η: its explicit gradient would
    diverge once ηλ > 2. With λ = 0 the own model is trained alone; with λ = ∞ it is the w of the
    last round in which the client took part. Under Adam, whose steps do not shrink with the
    gradient, a λ means another thing than under the paper's SGD.

    A client's own model begins as the first weights it receives, and with what it keeps private
    as the first training left that; nothing pulls at the latter. It is kept in the "strategy"
    memory; of word tables the rows of the client's own words.
    """

    lam: float = 1.0

    keeps_model = True

    def __post_init__(self):
        super().__post_init__()
        require(self.lam >= 0, "lam", self.lam, "a number not below 0, or inf")

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        _load_own(run, of_model(run.model))
        pull = pull_towards(run.on_device(run.weights), self.lam, run.config.lr)
        options = {"seed": child_seed(run.seed, "own"), "hooks": Hooks(after=pull)}
        train(run.model, run.data, run.config, **options, **_limits(run))
        return {}, _kept_own(run.model, torch.ones((), dtype=torch.float32, device="cpu"))


def _limits(run: LocalRun) -> dict[str, Any]:
    return {"stop": run.stop, "max_steps": run.steps}


def _load_own(run: LocalRun, trained: State) -> State:
    """Load a client's own model; return what it keeps beside that. What is private begins as the
    client's training left it."""
    kept = dict(run.kept or run.weights)
    share = {name: kept.pop(name) for name in (OWN_SHARE,) if name in kept}
    rows.load(run.model, trained | kept)
    return share


def _kept_own(model: nn.Module, share: Tensor) -> State:
    return to_device(of_model(model) | {OWN_SHARE: share}, "cpu")


def pull_towards(goal: State, lam: float, lr: float) -> Callable[[nn.Module], None]:
    """Return the proximal step of (lam/2)·‖v - goal‖² at rate `lr`, to follow each other step.

    Args:
        goal: tensors on the model's device, of its shapes; what it does not name is not pulled.
        lam: not negative; infinite: the model becomes the goal.
        lr: learning rate of the steps that it follows.
    """
    share = lr * lam / (1 + lr * lam) if lam < float("inf") else 1.0

    @torch.no_grad()
    def pull(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name in goal:
                parameter.lerp_(goal[name], share)

    return pull


class Mixture(nn.Module):
    """The model with weights α·own + (1-α)·shared, of which own and α can be trained.

    Args:
        model: holds the own weights, and is trained in place.
        shared: weights of the same shapes, on its device; they stay as they are.
        alpha: share of the own weights, in [0, 1].
    """

    def __init__(self, model: nn.Module, shared: State, alpha: float):
        super().__init__()
        self.own, self.shared = model, shared
        self.training = model.training
        # Not a parameter: an optimiser such as Adam would move it by full steps.
        like = next(model.parameters())
        options = {"dtype": like.dtype, "device": like.device, "requires_grad": True}
        self.alpha = torch.tensor(alpha, **options)

    def mixed(self) -> State:
        """Return the mixed weights, through which gradients flow."""
        own = self.own.named_parameters()
        return {n: self.alpha * p + (1 - self.alpha) * self.shared[n] for n, p in own}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the model gives with the mixed weights."""
        return functional_call(self.own, self.mixed(), inputs)

    @torch.no_grad()
    def move_share(self, lr: float) -> None:
        """Take one plain gradient step with α, from what `backward` left, and stay in [0, 1]."""
        self.alpha -= lr * self.alpha.grad
        self.alpha.clamp_(0, 1)
        self.alpha.grad = None


@dataclass(frozen=True)
class APFL(Strategy):
    """FedAvg, and beside it weights v of each client's own, used as the mixture α·v + (1-α)·w.

    Deng et al. 2020, arXiv:2003.13461, Algorithm 1. v is trained through the mixture with w as
    this client's training left it, after that (the paper alternates the two step by step), but a
    client answers with the global w; α follows its gradient (equation 5) by plain steps of the
    clients' rate. Both are kept in the "strategy" memory. v begins as the first weights received.
    """

    alpha: float = 0.5

    keeps_model = True

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "a number from 0 to 1")

    def report(self, run: LocalRun, update: Update) -> tuple[State, State]:
        trained = of_model(run.model)
        alpha = float(_load_own(run, trained).get(OWN_SHARE, self.alpha))
        given = (run.data, run.config, child_seed(run.seed, "own"))
        mixture = train_mixture(run.model, trained, alpha, *given, **_limits(run))
        return {}, _kept_own(run.model, mixture.alpha.detach().clone())


def train_mixture(
    model: nn.Module,
    shared: State,
    alpha: float,
    data: Examples,
    config: LocalConfig,
    seed: int,
    **limits: Any,
) -> Mixture:
    """Train the model's weights, in place, and α through their `Mixture` with shared ones; return
    that. α moves at the rate of `config`; `limits`: `stop` and `max_steps`, as of `train`."""
    mixture = Mixture(model, shared, alpha)
    hooks = Hooks(after=lambda _: mixture.move_share(config.lr))
    train(mixture, data, config, seed=seed, hooks=hooks, **limits)
    return mixture
