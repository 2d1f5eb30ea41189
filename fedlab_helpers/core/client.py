"""What clients do in one round: load the global weights, train, transform, pack."""

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import torch
from torch import nn

from fedlab_helpers.core import compute, rows, state, wire
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.identity import digest, known_as
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
from fedlab_helpers.core.model import require_repeatable, seed_dropout, use_own_randomness
from fedlab_helpers.core.plan import Plan, require_speeds
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import LocalRun, Strategy
from fedlab_helpers.core.training import Stopped, evaluate, train


def everything(name: str) -> bool:
    """Return True: the parameter of this name is shared."""
    return True


@dataclass(eq=False)
class Clients:
    """The clients of a run, with all that they need to train; arguments as in `rounds`.

    Raises:
        ValueError: the model draws random numbers that cannot be seeded, or uses its
            `token_parameter` for more than looking up ids; the strategy averages row by row, which
            these clients do not allow, sends whole weights of which the codec would send a part,
            or sends something beside the change that a transform does not cover; or there is not
            one speed for each client.
    """

    model: nn.Module
    data: Sequence[Examples]
    strategy: Strategy
    plan: Plan
    codec: Codec | None = None
    transforms: Sequence[Transform] = ()
    shared: Callable[[str], bool] = everything
    client_devices: Sequence[str | torch.device] | None = None
    stop: Event | None = None

    def __post_init__(self):
        self.codec = self.codec or wire.touched_rows()
        places = self.client_devices or [next(self.model.parameters()).device]
        self.devices = compute.place(len(self.data), places)
        self.model = use_own_randomness(copy.deepcopy(self.model).cpu())
        self.size = len(self.data)
        self.repeatable = not any(getattr(t, "secret", False) for t in self.transforms)
        self._idle: dict[torch.device, list[nn.Module]] = {d: [] for d in self.devices}
        decay = self.plan.local.weight_decay
        dense = any(getattr(part, "dense", False) for part in (self.strategy, *self.transforms))
        self._table = rows.sparse_table(self.model, self.shared, self.codec, decay, dense)
        self._require_fit()

    def sparse_parameter(self) -> str | None:
        """Return the parameter of which clients train the touched rows only, if that is exact."""
        return self._table

    def _require_fit(self) -> None:
        strategy, some = self.strategy, next((data for data in self.data if data), None)
        if some is not None:
            self._require_model_fits(some.subset(range(min(2, len(some)))).to("cpu"))
            strategy.require_objective(some.objective)
            if odd := [d.objective for d in self.data if d and d.objective != some.objective]:
                raise ValueError(
                    f"clients: are asked {some.objective!r} and {odd[0]!r}; one of them"
                )
        same: dict[nn.Parameter, set[str]] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            same.setdefault(parameter, set()).add(name)
        for names in same.values():
            if len({bool(self.shared(name)) for name in names}) > 1:
                raise ValueError(f"shared: {sorted(names)} are one parameter; share all or none")
        if strategy.combine.per_row and not self._table:
            raise ValueError(
                "strategy: averaging row by row needs to know which rows a client touched: use "
                "codec=wire.touched_rows(), a shared `token_parameter`, and no weight decay"
            )
        if strategy.sends != "change" and getattr(self.codec, "changes_only", False):
            raise ValueError(
                f"codec: {self.codec!r} sends a part of a change, but this strategy sends whole "
                "weights; expected one with sends='change', or a codec that keeps everything"
            )
        blind = [t for t in self.transforms if not getattr(t, "covers_extra", False)]
        if blind and strategy.extra_like(state.of_model(self.model)):
            raise ValueError(
                f"transforms: {blind[0]!r} does not cover what {type(strategy).__name__} sends "
                "beside the change, from which the exact change can be computed; expected "
                "transforms with covers_extra=True that treat update.extra, too"
            )
        if self.plan.pace:
            require_speeds("pace", self.plan.pace.steps_per_second, self.size)

    def _require_model_fits(self, few: Examples) -> None:
        probe = copy.deepcopy(self.model).train()
        seed_dropout(probe, torch.Generator("cpu"))
        try:
            probe(*few.inputs)
        except Exception:  # a model that cannot answer is each client's to tell
            return
        require_repeatable(probe, few.inputs)
        if self._table:
            rows.require_lookup_only(self.model, self._table, few)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of a run with these clients."""
        first = state.of_model(self.model)
        return {
            "codec": known_as(self.codec),
            "transforms": [known_as(transform) for transform in self.transforms],
            "model": known_as(self.model),
            "shared": [name for name in first if self.shared(name)],
            "private": digest({n: t for n, t in first.items() if not self.shared(n)}),
            "clients": digest(self.data),
        }

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the reply of each client of round `number`, in cohort order; `states` is what
        each kept from earlier rounds, and is not changed."""
        return self.answers((Request(number, client, received) for client in cohort), states)

    def answers(
        self, requests: Iterable[Request], states: dict[int, ClientState]
    ) -> Generator[Reply, None, None]:
        """Yield the reply to each request, in this order; clients may start from other weights."""
        halt = compute.Halt(self.stop)

        def reply(asked: Request) -> Reply:
            return self._reply(asked, states.get(asked.client, {}), halt)

        workers = compute.worker_count(self.plan.workers)
        return compute.ordered_map(reply, requests, workers, halt)

    def accepted(self, number: int, clients: Iterable[int]) -> None:
        """Nothing is done: what these clients keep is handed to them with each request."""

    def _reply(self, asked: Request, kept: ClientState, stop: Event) -> Reply:
        """Return a client's reply; whatever goes wrong there costs the run this client only."""
        client, device, pace = asked.client, self.devices[asked.client], self.plan.pace
        dice = compute.numpy_rng(self.plan.seed, "dropout", asked.number, client)
        if dice.random() < self.plan.dropout_rate:
            return Reply(client, failure="dropped out (simulated)")
        whole = self.plan.local.steps(len(self.data[client]))
        if pace and (late := pace.missed(client, whole)):
            return Reply(client, failure=late)
        try:
            replica = self._idle[device].pop()
        except IndexError:
            replica = copy.deepcopy(self.model).to(device)
        try:
            trained, kept = self._train(replica, asked, kept, stop)
            update, kept = self._transform(trained, kept, asked.number)
            reply = self._pack(update, kept, asked)
            return self._settle(reply, trained, asked.received.weights)
        except Stopped:
            raise
        except Exception as error:
            return Reply(client, failure=reason(error))
        finally:
            self._idle[device].append(replica)

    def _train(
        self, replica: nn.Module, asked: Request, kept: ClientState, stop: Event
    ) -> tuple[Update, ClientState]:
        """Train one client from the received weights; return its update and what it keeps."""
        client, received, local = asked.client, asked.received, self.plan.local
        private = kept.get("private") or self._first_private(client)
        weights, data, touched = received.weights, self.data[client], {}
        if self._table:
            data, touched[self._table] = rows.select(data)
            weights = weights | {self._table: weights[self._table][touched[self._table]]}
        rows.load(replica, weights | received.buffers | private)
        data = data.to(self.devices[client])
        steps = self.plan.pace and self.plan.pace.steps(client, local.steps(len(data)))
        run = LocalRun(
            replica,
            weights,
            received.extra,
            data,
            local,
            kept.get("strategy", {}),
            evaluate(replica, data, stop=stop).loss if self.strategy.asks_loss else None,
            compute.child_seed(self.plan.seed, "local", asked.number, client),
            stop,
            steps,
        )
        hooks = self.strategy.begin(run)
        report = train(replica, data, local, seed=run.seed, hooks=hooks, stop=stop, max_steps=steps)
        trained = state.to_device(state.of_model(replica), "cpu")
        sent = {name: trained.pop(name) for name in weights}
        buffers = {name: trained.pop(name) for name in received.buffers}
        if self.strategy.sends == "change":
            sent = state.subtract(sent, weights)
        told = (data.asked, report.steps, report.losses)
        update = Update(client, sent, touched, *told, buffers=buffers)
        extra, memory = self.strategy.report(run, update)
        kept = kept | {"private": trained, "strategy": memory}
        update = replace(update, extra=extra) if extra else update
        return update, {owner: t for owner, t in kept.items() if t}

    def _first_private(self, client: int) -> State:
        """Return the first values of what is not shared; of a personal word table the rows of
        the client's own words only, where these are all that is trained of the shared one."""
        private = {n: t for n, t in self.model.state_dict().items() if not self.shared(n)}
        table = getattr(self.model, "own_token_parameter", None)
        if table in private and self._table:
            private[table] = private[table][rows.select(self.data[client])[1]]
        return private

    def _transform(
        self, update: Update, kept: ClientState, number: int
    ) -> tuple[Update, ClientState]:
        """Pass the update through the transforms, each with what it kept for this client."""
        for place, transform in enumerate(self.transforms):
            owner = f"transform{place}"
            rng = (
                compute.secret_rng()
                if getattr(transform, "secret", False)
                else compute.torch_rng(self.plan.seed, owner, number, update.client)
            )
            update, memory = transform(update, kept.get(owner, {}), rng)
            if memory or owner in kept:
                kept = {**kept, owner: memory}
        return update, kept

    def _pack(self, update: Update, kept: ClientState, asked: Request) -> Reply:
        """Return the update as bytes, and what the client keeps of what they lose."""
        rng = compute.torch_rng(self.plan.seed, "codec", asked.number, update.client)
        memory, like = kept.get("feedback", {}), asked.received.weights
        payload, lost = wire.send(update, self.codec, memory, like, rng)
        return Reply(update.client, payload, {**kept, "feedback": lost} if lost else kept)

    def _settle(self, reply: Reply, trained: Update, like: State) -> Reply:
        """Let the strategy see what the server will, where what a client keeps depends on it."""
        if not self.strategy.settles:
            return reply
        arrived = wire.unpack(reply.payload, self.codec, reply.client)
        arrived, trained = (rows.make_whole(update, like) for update in (arrived, trained))
        memory = self.strategy.settle(reply.kept["strategy"], trained, arrived)
        return replace(reply, kept={**reply.kept, "strategy": memory})
