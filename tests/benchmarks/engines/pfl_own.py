"""The workload in Apple's pfl, as its tutorials write it; torchrun starts the worker processes."""

import itertools
import time

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import AbstractDataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import get_ops
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch.nn.functional import cross_entropy
from workload import Workload, arguments, workload

from fedlab_helpers.core.rounds import sample_cohort
from fedlab_helpers.tasks.reviews.model import SentimentLSTM


class WithLoss(SentimentLSTM):
    """The model, with the two methods that pfl calls."""

    def loss(self, tokens, lengths, labels):
        return cross_entropy(self(tokens, lengths), labels)

    @torch.no_grad()
    def metrics(self, tokens, lengths, labels):
        return {"loss": Weighted(float(self.loss(tokens, lengths, labels)), 1)}


class Own(AbstractDataset):
    """A client's reviews, in the batches of a round."""

    def __init__(self, work: Workload, number: int, client: int):
        self.work, self.number, self.client = work, number, client

    raw_data = metadata = property(lambda self: None)
    train_kwargs = eval_kwargs = property(lambda self: {})
    user_id = property(lambda self: self.client)

    def __len__(self) -> int:
        return len(self.work.clients[self.client])

    def iter(self, batch_size):
        for batch in self.work.batches(self.number, self.client):
            yield batch.tokens, batch.lengths, batch.labels

    def split(self, *_):
        raise NotImplementedError

    def get_worker_partition(self):
        raise NotImplementedError


class Clock(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self):
        self.ends = []

    def on_train_begin(self, *, model):
        self.ends.append(time.perf_counter())
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    case, rounds, out = arguments()
    work = workload(case, rounds)
    clients, plan, local = work.clients, work.plan, work.plan.local
    asked = (
        (number, client)
        for number in range(1, rounds + 1)
        for client in sample_cohort(plan, number, len(clients))
    )
    data = FederatedDataset(lambda user: Own(work, *user), lambda: next(asked))
    backend = SimulatedBackend(data, data, postprocessors=[WeightByDatapoints()])
    net = WithLoss(len(work.task.vocab), pooling="mean", seed=0)
    central = torch.optim.SGD(net.parameters(), lr=1.0)
    model = PyTorchModel(net, torch.optim.Adam, central)
    clock = Clock()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**9,  # the first round only, which warms up
            train_cohort_size=plan.clients_per_round,
            val_cohort_size=0,
        ),
        backend,
        model,
        NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=local.lr,
            local_batch_size=local.batch_size,
            local_max_grad_norm=local.max_grad_norm,
        ),
        NNEvalHyperParams(local_batch_size=local.batch_size),
        callbacks=[clock],
    )
    if get_ops().distributed.global_rank == 0:
        work.report(out, [end - begin for begin, end in itertools.pairwise(clock.ends)], net)
    if torch.distributed.is_initialized():  # let go together, or the first to end aborts the other
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
