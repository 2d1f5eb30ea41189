"""One model for all clients, what a client can gain by its labels alone, and mixtures of two."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot, Weights
from fedlab_helpers.personal.fine_tuning import correct_priors, mix
from fedlab_helpers.strategies.labels import require_classes

SHARES = tuple(step / 10 for step in range(11))  # of a mixture


@dataclass(frozen=True)
class Shared(Method):
    """One model for all, seen whenever it is due.

    Args:
        corrected: its answers are, by how often each client meets each class.
        another: a second one, of other first weights and cohorts. Two models answer better than
            one, whatever they are: mixed with the first, this tells how much of what a mixture
            gains comes of that alone.
    """

    corrected: bool = False
    another: bool = False
    tries: tuple[float, ...] = ()

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        clients, plan = federation.clients, federation.plan
        if self.another:
            seed = child_seed(plan.seed, "another")
            federation = replace(federation, plan=replace(plan, seed=seed))
        for data in clients if self.corrected else ():
            require_classes("corrected", data.objective)
        everybody = torch.cat([data.targets for data in clients]) if self.corrected else None
        for at, (weights, *sent) in federation.shared.items():
            answer = partial(_answer, federation.answer_of(weights), everybody)
            yield Snapshot(at, lambda client, answer=answer: answer(clients[client]), answer, *sent)


def _answer(plain: Answer, everybody: Tensor | None, data: Examples | None) -> Answer:
    """Return the model's answers, corrected for who holds these examples if that is wished."""
    if data is None or everybody is None:
        return plain
    return lambda reviews: correct_priors(plain(reviews), data.targets, everybody)


@dataclass(frozen=True)
class Mixed(Method):
    """Another method's models, their answers mixed with those of the shared model.

    One share for all clients (the source has one for each): that with the lowest loss on their
    validation reviews, in the mean over clients. What both runs send is counted; they are seen
    whenever the method's models are there.
    """

    method: Method

    @property
    def tries(self) -> tuple[float, ...]:
        return self.method.tries

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        for own in self.method.snapshots(federation, number):
            yield self._mixed(federation, own, federation.shared[own.round])

    def _mixed(self, federation: Federation, own: Snapshot, shared: Weights) -> Snapshot:
        weights, up, total = shared
        plain, asked = federation.answer_of(weights), []
        for client, data in enumerate(member.validation for member in federation.members):
            require_classes("mixed", data.objective)
            asked.append((plain(data), own.answer(client)(data), data.targets))

        def loss(share: float) -> float:
            return sum(float(nll_loss(mix(*logits, share).log(), t)) for *logits, t in asked)

        share = min(SHARES, key=loss)

        def mixed(answer: Answer) -> Answer:
            return lambda reviews: mix(plain(reviews), answer(reviews), share).log()

        return replace(
            own,
            answer=lambda client: mixed(own.answer(client)),
            newcomer=lambda data: mixed(own.newcomer(data)),
            bytes_up=up + own.bytes_up,
            total_bytes=total + own.total_bytes,
        )
