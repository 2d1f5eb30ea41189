"""One model for all clients, what a client can gain by its labels alone, and mixtures of two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.personal.federation import Answer, Federation, Method, Snapshot
from fedlab_helpers.personal.fine_tuning import SHARES, correct_priors, loss_of_mix, mix
from fedlab_helpers.strategies.labels import require_classes


@dataclass(frozen=True)
class Shared:
    """One model for all; `corrected`: by how often each client meets each class."""

    corrected: bool = False
    tries: tuple[float, ...] = ()

    def snapshots(self, federation: Federation, number: float = 0.0) -> Iterator[Snapshot]:
        """Yield the shared model whenever it is due. Raises ValueError: there are no classes."""
        clients = federation.clients
        if self.corrected:
            for data in clients:
                require_classes("corrected", data.objective)
        everybody = torch.cat([data.targets for data in clients]) if self.corrected else None
        for at, (weights, up, total) in federation.shared.items():
            newcomer = partial(_answer, federation.answer_of(weights), everybody)
            own = partial(_own, newcomer, clients)
            yield Snapshot(at, own, newcomer, up, total)


def _own(newcomer: Callable[[Examples], Answer], clients: list, client: int) -> Answer:
    return newcomer(clients[client])


def _answer(plain: Answer, everybody: Tensor | None, data: Examples | None) -> Answer:
    """Return the model's answers, corrected for who holds these examples if that is wished."""
    if data is None or everybody is None:
        return plain
    return lambda reviews: correct_priors(plain(reviews), data.targets, everybody)


@dataclass(frozen=True)
class Another:
    """A second shared model, of other first weights and cohorts; nothing about it is personal.

    Two models answer better than one, whatever they are. Mixed with the first, this tells how much
    of what a mixture gains comes of that alone.
    """

    tries: tuple[float, ...] = ()

    def snapshots(self, federation: Federation, number: float = 0.0) -> Iterator[Snapshot]:
        """Yield the second model whenever it is due."""
        seed = child_seed(federation.plan.seed, "another")
        return Shared().snapshots(replace(federation, plan=replace(federation.plan, seed=seed)))


@dataclass(frozen=True)
class Mixed:
    """Another method's models, their answers mixed with those of the shared model.

    One share for all clients (the source has one for each): that with the lowest loss on their
    validation reviews, in the mean over clients. What both runs send is counted.
    """

    method: Method

    @property
    def tries(self) -> tuple[float, ...]:
        """The values worth trying are the method's."""
        return self.method.tries

    def snapshots(self, federation: Federation, number: float) -> Iterator[Snapshot]:
        """Yield the mixtures whenever the method's models are there."""
        for own in self.method.snapshots(federation, number):
            yield self._mixed(federation, own, *federation.shared[own.round])

    def _mixed(self, federation: Federation, own: Snapshot, weights, up: int, total: int):
        for member in federation.members:
            require_classes("mixed", member.validation.objective)
        plain = federation.answer_of(weights)
        asked = [
            (plain(m.validation), own.answer(k)(m.validation), m.validation.targets)
            for k, m in enumerate(federation.members)
        ]
        losses = [sum(loss_of_mix(*each, share) for each in asked) for share in SHARES]
        share = SHARES[losses.index(min(losses))]

        def mixed(answer: Answer) -> Answer:
            return lambda reviews: mix(plain(reviews), answer(reviews), share).log()

        return replace(
            own,
            answer=lambda client: mixed(own.answer(client)),
            newcomer=lambda data: mixed(own.newcomer(data)),
            bytes_up=up + own.bytes_up,
            total_bytes=total + own.total_bytes,
        )
