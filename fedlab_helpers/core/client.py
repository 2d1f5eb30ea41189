"""What clients do in one round: load the global weights, train, transform, pack."""

import copy
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fedlab_helpers.compression import WithFeedback, require_change
from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.compute import child_seed, numpy_rng, ordered_map, torch_rng
from fedlab_helpers.core.identity import digest
from fedlab_helpers.core.identity import known_as as described
from fedlab_helpers.core.messages import (
    ClientState,
    Codec,
    Received,
    Reply,
    Request,
    Transform,
    Update,
    reason,
)
from fedlab_helpers.core.model import use_own_randomness
from fedlab_helpers.core.plan import Pace, require_speeds
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import LocalRun, Strategy
from fedlab_helpers.core.training import LocalConfig, Stopped, evaluate, train
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


@dataclass(eq=False)
class Clients:
    """The clients of a run, with all that they need to train.

    Args:
        model: gives the architecture, and the first values of what is not shared; not changed.
        data: the reviews of each client.
        devices: where each client trains.
        local: how each client trains.
        seed: the run's seed.
        dropout_rate: probability that a client receives the weights and never answers.
        workers: how many clients train side by side.
        strategy: what it changes in local training, and what clients send and keep for it.
        codec: how updates become bytes.
        transforms: what an update passes before it is encoded.
        shared: whether the parameter of this name is sent and averaged.
        stop: looked at between batches.
        pace: simulated speeds and a deadline; None: every client does all its work.

    Raises:
        ValueError: the model draws random numbers that cannot be seeded, or names a
            `token_parameter` that it does not have; the strategy averages row by row, which
            these clients do not allow, or sends whole weights of which the codec would send a
            part; or there is not one speed for each client.
    """

    model: nn.Module
    data: Sequence[EncodedReviews]
    devices: Sequence[torch.device]
    local: LocalConfig
    seed: int
    dropout_rate: float
    workers: int
    strategy: Strategy
    codec: Codec
    transforms: Sequence[Transform]
    shared: Callable[[str], bool]
    stop: threading.Event | None
    pace: Pace | None = None

    def __post_init__(self):
        self.model = use_own_randomness(copy.deepcopy(self.model).cpu())
        self._idle: dict[torch.device, list[nn.Module]] = {d: [] for d in self.devices}
        name = getattr(self.model, "token_parameter", None)
        known = [known for known, _ in self.model.named_parameters()]
        if name and name not in known:
            raise ValueError(
                f"model: its token_parameter is {name!r}, expected one of {known}, or None"
            )
        if self.strategy.combine.per_row and not self.sparse_parameter():
            raise ValueError(
                "strategy: averaging row by row needs to know which rows a client touched: use "
                "codec=wire.touched_rows(), a shared `token_parameter`, and no weight decay"
            )
        if self.strategy.sends != "change":
            require_change(self.codec)
        if self.pace:
            require_speeds("pace", self.pace.steps_per_second, len(self.data))

    @property
    def size(self) -> int:
        """How many clients there are."""
        return len(self.data)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of a run with these clients."""
        shapes = {name: list(t.shape) for name, t in self.model.state_dict().items()}
        return {
            "codec": described(self.codec),
            "transforms": [described(transform) for transform in self.transforms],
            "model": described(self.model),
            "shapes": shapes,
            "shared": [name for name in shapes if self.shared(name)],
            "clients": digest(self.data),
        }

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the reply of each client of round `number`, in cohort order.

        Args:
            received: what the server sent, as decoded.
            states: what each client kept from earlier rounds; not changed.
        """
        return self.answers((Request(number, client, received) for client in cohort), states)

    def answers(
        self, requests: Iterable[Request], states: dict[int, ClientState]
    ) -> Generator[Reply, None, None]:
        """Yield the reply to each request, in this order; clients may start from other weights."""

        def reply(asked: Request) -> Reply:
            kept = states.get(asked.client, {})
            return self._reply(asked.number, asked.client, asked.received, kept)

        return ordered_map(reply, requests, self.workers)

    def _reply(self, number: int, client: int, received: Received, kept: ClientState) -> Reply:
        """Return a client's reply; whatever goes wrong there costs the run this client only."""
        if numpy_rng(self.seed, "dropout", number, client).random() < self.dropout_rate:
            return Reply(client, failure="dropped out (simulated)")
        whole = self.local.steps(len(self.data[client]))
        if self.pace and (late := self.pace.missed(client, whole)):
            return Reply(client, failure=late)
        device = self.devices[client]
        try:
            replica = self._idle[device].pop()
        except IndexError:
            replica = copy.deepcopy(self.model).to(device)
        try:
            trained, kept = self._train(replica, number, client, received, kept)
            update, kept = self._transform(trained, kept, number)
            reply = self._pack(update, kept, number, received.weights)
            return self._settle(reply, trained, received.weights)
        except Stopped:
            raise
        except Exception as error:
            return Reply(client, failure=reason(error))
        finally:
            self._idle[device].append(replica)

    def _train(
        self,
        replica: nn.Module,
        number: int,
        client: int,
        received: Received,
        kept: ClientState,
    ) -> tuple[Update, ClientState]:
        """Train one client from the received weights; return its update and what it keeps."""
        private = kept.get("private") or self._first_private(client)
        weights, data, touched = received.weights, self.data[client], {}
        if name := self.sparse_parameter():
            data, touched[name] = rows.select(data)
            weights = weights | {name: weights[name][touched[name]]}
        rows.load(replica, weights | private)
        data = data.to(self.devices[client])
        loss = evaluate(replica, data).loss if self.strategy.asks_loss else None
        memory = kept.get("strategy", {})
        seed = child_seed(self.seed, "local", number, client)
        most = self.pace and self.pace.steps(client, self.local.steps(len(data)))
        own = (memory, loss, seed, self.stop, most)
        turn = LocalRun(replica, weights, received.extra, data, self.local, *own)
        hooks = self.strategy.begin(turn)
        report = train(
            replica, data, self.local, seed=seed, hooks=hooks, stop=self.stop, max_steps=most
        )
        trained = state.to_device(state.of_model(replica), "cpu")
        sent = {name: trained.pop(name) for name in weights}
        if self.strategy.sends == "change":
            sent = state.subtract(sent, weights)
        update = Update(client, sent, touched, len(data), report.steps, report.losses)
        extra, memory = self.strategy.report(turn, update)
        kept = kept | {"private": trained, "strategy": memory}
        update = replace(update, extra=extra) if extra else update
        return update, {owner: t for owner, t in kept.items() if t}

    def _pack(self, update: Update, kept: ClientState, number: int, like: State) -> Reply:
        """Return the update as bytes, and what the client keeps of what they lose."""
        rng = torch_rng(self.seed, "codec", number, update.client)
        if not isinstance(self.codec, WithFeedback):
            return Reply(update.client, wire.pack(update, self.codec, like, rng), kept)
        payload, lost = self.codec.pack(update, kept.get("feedback", {}), like, rng)
        return Reply(update.client, payload, {**kept, "feedback": lost})

    def _settle(self, reply: Reply, trained: Update, like: State) -> Reply:
        """Let the strategy see what the server will, where what a client keeps depends on it."""
        if not self.strategy.settles:
            return reply
        arrived = wire.unpack(reply.payload, self.codec, reply.client)
        arrived, trained = (rows.make_whole(update, like) for update in (arrived, trained))
        memory = self.strategy.settle(reply.kept["strategy"], trained, arrived)
        return replace(reply, kept={**reply.kept, "strategy": memory})

    def _first_private(self, client: int) -> State:
        """Return the first values of what is not shared; of a personal word table the rows of
        the client's own words only, where these are all that is trained of the shared one."""
        private = {n: t for n, t in self.model.state_dict().items() if not self.shared(n)}
        table = getattr(self.model, "own_token_parameter", None)
        if table in private and self.sparse_parameter():
            private[table] = private[table][rows.select(self.data[client])[1]]
        return private

    def accepted(self, number: int, clients: Iterable[int]) -> None:
        """Nothing is done: what these clients keep is handed to them with each request."""

    def sparse_parameter(self) -> str | None:
        """Return the parameter of which clients train the touched rows only, if that is exact."""
        name = getattr(self.model, "token_parameter", None)
        exact = self.codec.keeps_rows and self.local.weight_decay == 0 and not self.strategy.dense
        # A second table that is sent, too, has other rows to train.
        second = getattr(self.model, "own_token_parameter", None)
        exact = exact and not (second and self.shared(second))
        return name if name and exact and self.shared(name) else None

    def _transform(
        self, update: Update, kept: ClientState, number: int
    ) -> tuple[Update, ClientState]:
        """Pass the update through the transforms, each with what it kept for this client."""
        for place, transform in enumerate(self.transforms):
            owner = f"transform{place}"
            rng = torch_rng(self.seed, owner, number, update.client)
            update, memory = transform(update, kept.get(owner, {}), rng)
            if memory or owner in kept:
                kept = {**kept, owner: memory}
        return update, kept
