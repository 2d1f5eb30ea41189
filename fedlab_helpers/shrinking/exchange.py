"""Federated distillation: clients send what they answer, not what they weigh."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlab_helpers.compression import Compressed, Float16
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.model import use_own_randomness
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require
from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.core.training import LocalConfig, predict, train
from fedlab_helpers.shrinking.distill import cooled, taught
from fedlab_helpers.strategies.labels import require_classes
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

View = Callable[[EncodedReviews], EncodedReviews]
_ANSWERS = "answers"


@dataclass(frozen=True, eq=False)
class Exchange:
    """One finished round of federated distillation."""

    round: int  # from 1
    cohort: tuple[int, ...]  # the clients that took part
    consensus: Tensor  # the mean of their logits on the public reviews, as decoded, (N, C)
    bytes_up: int  # sent by the cohort
    bytes_down: int  # sent to it


def distillation_rounds(
    models: Sequence[nn.Module],
    clients: Sequence[EncodedReviews],
    public: EncodedReviews,
    plan: Plan,
    *,
    learn: LocalConfig | None = None,
    temperature: float = 1.0,
    codec: Codec | None = None,
    views: Sequence[View] | None = None,
) -> Iterator[Exchange]:
    """Train a model for each client, of any architecture, by exchanging predictions.

    Li and Wang 2019, arXiv:1910.03581 (FedMD), Algorithm 1, without its pretraining: in a round,
    each client of the cohort trains on its own reviews, answers the public ones and sends the
    logits; the server sends back their mean; each of them trains on the public reviews towards
    that. No label of a public review is used.

    Args:
        models: one for each client; changed in place. Only their answers must be alike in shape.
        clients: the reviews of each client.
        public: reviews that all have; their labels are not looked at.
        plan: rounds, cohort, local training, seed.
        learn: how a client trains towards the consensus; None: as `plan.local`.
        temperature: of the consensus.
        codec: of the logits; None: 16 bits a value.
        views: for each client, what its model reads in place of reviews (another vocabulary);
            None: the reviews.

    Raises:
        ValueError: there is not one model, or view, for each client, or a cohort may be empty; or
            something else is asked than classes, of which there is no mean to learn from.
    """
    for data in (*clients, public):
        require_classes("distillation_rounds", data.objective)
    views = views or [lambda reviews: reviews] * len(clients)
    fixed = plan.sampling == "fixed"
    require(fixed, "plan: its sampling", plan.sampling, "'fixed': of nobody there is no consensus")
    counts = [len(models), len(clients), len(views)]
    require(len({*counts}) == 1, "models, clients, views", counts, "as many of each")
    for model in models:
        use_own_randomness(model)
    codec = codec or Compressed(write=Float16())
    sides = list(zip(models, clients, views, strict=True))
    for number in range(1, plan.rounds + 1):
        cohort = sample_cohort(plan, number, len(clients))
        sent = []
        for client in cohort:
            model, own, view = sides[client]
            seed = child_seed(plan.seed, "local", number, client)
            train(model, view(own), plan.local, seed=seed)
            sent.append(codec.encode({_ANSWERS: predict(model, view(public))}))
        answers = torch.stack([codec.decode(payload)[_ANSWERS] for payload in sent])
        back = codec.encode({_ANSWERS: answers.mean(0)})
        consensus = codec.decode(back)[_ANSWERS]
        lesson = taught(public, consensus, temperature, trust=1.0)
        for client in cohort:
            model, _, view = sides[client]
            seed = child_seed(plan.seed, "learn", number, client)
            train(model, view(lesson), learn or plan.local, seed=seed, hooks=cooled(temperature))
        yield Exchange(number, cohort, consensus, sum(map(len, sent)), len(back) * len(cohort))
