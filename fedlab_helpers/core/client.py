"""What clients do in one round: load the global weights, train, transform, pack."""

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import torch
from torch import nn

from fedlab_helpers.core import compute, messages, rows, state, wire
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.identity import digest, known_as
from fedlab_helpers.core.messages import ClientState, Codec, Reply, Request, Transform, Update
from fedlab_helpers.core.model import require_repeatable, seed_dropout, use_own_randomness
from fedlab_helpers.core.plan import Plan, require_speeds
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import LocalRun, Strategy
from fedlab_helpers.core.training import Stopped, evaluate, train


def everything(name: str) -> bool:
    """Return True: the parameter of this name is shared."""
    return True


@dataclass(eq=False)
class Clients(messages.Workers):
    """The clients of a run, with all that they need to train; arguments as in `rounds`.

    Raises:
        ValueError: the model draws random numbers that cannot be seeded, or uses its
            `token_parameter` for more than looking up ids; the strategy averages row by row, which
            these clients do not allow, sends whole weights where it or the codec wants changes,
            or sends something beside the change that a transform does not cover; a transform's own
            `require_fit` says so of these clients; or there is not one speed for each.
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
        self.size = len(self.data)
        self.devices = compute.place(self.size, places)
        self.repeatable = not any(getattr(t, "secret", False) for t in self.transforms)
        self._idle: dict[torch.device, list[nn.Module]] = {d: [] for d in self.devices}
        self._remembers = False  # whether the model keeps more than its state from call to call
        self.moving = set(state.buffer_names(self.model))  # buffers that training moves
        parts = self.plan.local.weight_decay, self.strategy, *self.transforms
        self.table = rows.sparse_table(self.model, self.shared, self.codec, *parts)
        self.model = use_own_randomness(rows.copied(self.model, self.table, slice(None)))
        self._private = {n: t for n, t in self.model.state_dict().items() if not self.shared(n)}
        with compute.intra_op_threads(1):  # as clients compute, and steadily where others are busy
            self._require_fit()

    def examples(self, client: int) -> Examples:
        """Return what a client trains on: its examples of which something is asked."""
        data = self.data[client]
        return data.only_asked() if data and data.asked else data

    def _require_fit(self) -> None:
        """Refuse what cannot be right together, before anybody trains."""
        strategy, codec = self.strategy, self.codec
        enough = (data for least in (2, 1) for data in self.data if len(data) >= least)
        if some := next(enough, None):  # a BatchNorm asks for two
            self._require_model_fits(some.subset(range(min(2, len(some)))).to("cpu"))
            strategy.require_objective(some.objective)
            seen = [] if hasattr(self.data, "objective") else self.data
            odd = [d.objective for d in seen if d and d.objective != some.objective]
            require(not odd, "clients", odd[:1], f"all to be asked {some.objective!r}")
        if check := getattr(self.shared, "require_fit", None):
            check(name for name, _ in self.model.named_parameters())
        tied: dict[nn.Parameter, list[str]] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            tied.setdefault(parameter, []).append(name)
        for names in tied.values():
            fine = len({bool(self.shared(name)) for name in names}) == 1
            require(fine, "shared", names, "all or none of the names of one parameter")
        expected = "codec=wire.touched_rows(), a shared `token_parameter` and no weight decay"
        fine = self.table or not strategy.combine.per_row
        require(fine, "strategy", strategy, f"{expected}, to average row by row")
        for name, part in ("codec", codec), ("combine", strategy.combine), ("strategy", strategy):
            fine = strategy.sends == "change" or not getattr(part, "changes_only", False)
            require(fine, name, part, "one that makes sense of whole weights, as are sent here")
        blind = [t for t in self.transforms if not getattr(t, "covers_extra", False)]
        fine = not (blind and strategy.extra_like(self.model.state_dict()))
        expected = f"one with covers_extra=True: what {type(strategy).__name__} sends beside the "
        require(fine, "transforms", blind[:1], f"{expected}change gives the exact change away")
        for check in [t.require_fit for t in self.transforms if hasattr(t, "require_fit")]:
            check(self)
        if self.plan.pace:
            require_speeds("pace", self.plan.pace.steps_per_second, self.size)

    def _require_model_fits(self, few: Examples) -> None:
        probe, before = copy.deepcopy(self.model), _held(self.model)
        probe = probe if probe.training else probe.train()
        seed_dropout(probe, torch.Generator("cpu"))
        try:
            probe(*few.inputs)
        except Exception:  # a model that cannot answer: each client's reply will say why
            return
        self._remembers = _held(probe) != before
        were = dict(self.model.named_buffers())
        held = {n: t for n, t in probe.named_buffers() if n in self.moving}
        self.moving = {n for n, t in held.items() if not t.equal(were[n])}
        require_repeatable(probe, few.inputs)
        probe = copy.deepcopy(self.model) if self._remembers else probe
        if self.table:
            rows.require_lookup_only(probe, self.table, few)

    def identity(self) -> dict[str, Any]:
        first = self.model.state_dict()
        return {
            "codec": known_as(self.codec),
            "transforms": [known_as(transform) for transform in self.transforms],
            "model": known_as(self.model),
            "shared": [name for name in first if self.shared(name)],
            "private": digest({n: t for n, t in first.items() if not self.shared(n)}),
            "clients": digest(self.data),
        }

    def answers(
        self, requests: Iterable[Request], states: dict[int, ClientState]
    ) -> Generator[Reply, None, None]:
        halt = compute.Halt(self.stop)

        def reply(asked: Request) -> Reply:
            return self._reply(asked, states.get(asked.client, {}), halt)

        workers = compute.worker_count(self.plan.workers)
        return compute.ordered_map(reply, requests, workers, halt)

    def _reply(self, asked: Request, kept: ClientState, stop: Event) -> Reply:
        """Return a client's reply; whatever goes wrong there costs the run this client only."""
        client, idle = asked.client, self._idle[self.devices[asked.client]]
        if failure := self._absent(asked):
            return Reply(client, failure=failure)
        try:
            replica = idle.pop()
        except IndexError:
            replica = rows.copied(self.model, self.table, slice(0)).to(self.devices[client])
        try:
            trained, kept = self._train(replica, asked, kept, stop)
            return self._send(trained, kept, asked)
        except Stopped:
            raise
        except Exception as error:
            return Reply(client, failure=messages.reason(error))
        finally:
            if not self._remembers:  # what it saw of one client is not for the next
                idle.append(replica)

    def _absent(self, asked: Request) -> str | None:
        """Return why a client does not answer in this round, as simulated; None if it does."""
        client, plan = asked.client, self.plan
        seed, rate = (plan.seed, "dropout", asked.number, client), plan.dropout_rate
        if rate and compute.numpy_rng(*seed).random() < rate:
            return "dropped out (simulated)"
        whole = plan.local.steps(len(self.examples(client))) if plan.pace else 0
        return plan.pace.missed(client, whole) if plan.pace else None

    def _train(
        self, replica: nn.Module, asked: Request, kept: ClientState, stop: Event
    ) -> tuple[Update, ClientState]:
        """Train one client from the received weights; return its update and what it keeps."""
        client, received, local = asked.client, asked.received, self.plan.local
        weights, data, touched = received.weights, self.examples(client), {}
        if self.table:
            data, touched[self.table] = rows.select(data, rows.scores_tokens(replica))
            weights = weights | {self.table: weights[self.table][touched[self.table]]}
        private = kept.get("private") or self._first_private(touched)
        rows.load(replica, weights | received.buffers | private)
        data, pace = data.to(self.devices[client]), self.plan.pace
        run = LocalRun(
            replica,
            weights,
            received.extra,
            data,
            local,
            kept=kept.get("strategy", {}),
            loss=evaluate(replica, data, stop=stop).loss if self.strategy.asks_loss else None,
            seed=compute.child_seed(self.plan.seed, "local", asked.number, client),
            stop=stop,
            steps=pace.steps(client, local.steps(len(data))) if pace else None,
        )
        options = {"seed": run.seed, "hooks": self.strategy.begin(run), "stop": stop}
        report = train(replica, data, local, max_steps=run.steps, **options)
        trained = state.to_device(replica.state_dict(), "cpu")
        sent = {name: trained.pop(name) for name in weights}
        whole = self.strategy.sends == "weights"
        sent = state.clone(sent) if whole else state.subtract(sent, weights)
        trained = state.clone(trained)
        buffers = {name: trained.pop(name) for name in received.buffers}
        told = (data.asked, report.steps, report.losses)
        update = Update(client, sent, touched, *told, buffers=buffers)
        extra, memory = self.strategy.report(run, update)
        update = replace(update, extra=extra) if extra else update
        return update, _keep(_keep(kept, "private", trained), "strategy", memory)

    def _first_private(self, touched: dict[str, torch.Tensor]) -> State:
        """Return the first values of what is not shared; of a personal word table the rows of
        the client's own words only, where these are all that is trained of the shared one."""
        private = dict(self._private)
        table = getattr(self.model, "own_token_parameter", None)
        if table in private and touched:
            private[table] = private[table][touched[self.table]]
        return private

    def _send(self, trained: Update, kept: ClientState, asked: Request) -> Reply:
        """Return the update as bytes, having passed the transforms and the codec, and what the
        client keeps: of each transform, of what the codec loses, and of what of it arrived."""
        client, seed, update = asked.client, self.plan.seed, trained
        for place, transform in enumerate(self.transforms):
            owner = f"transform{place}"
            rng = compute.torch_rng(seed, owner, asked.number, client)
            rng = compute.secret_rng() if getattr(transform, "secret", False) else rng
            update, memory = transform(update, kept.get(owner, {}), rng)
            kept = _keep(kept, owner, memory)
        rng, like = compute.torch_rng(seed, "codec", asked.number, client), asked.received.weights
        payload, lost = wire.send(update, self.codec, kept.get("feedback", {}), like, rng)
        kept = _keep(kept, "feedback", lost)
        if self.strategy.settles:
            arrived = rows.make_whole(wire.unpack(payload, self.codec, client), like)
            trained, memory = rows.make_whole(trained, like), kept.get("strategy", {})
            kept = _keep(kept, "strategy", self.strategy.settle(memory, trained, arrived))
        return Reply(client, payload, kept)


def _held(model: nn.Module) -> object:
    """Return a fingerprint of what a model holds beside its state."""
    state, buffers = model.state_dict(), model.named_buffers()
    try:
        return digest((model, {n: t for n, t in buffers if n not in state}))
    except Exception:  # it holds what no fingerprint can be taken of: another each time
        return object()


def _keep(kept: ClientState, owner: str, part: State) -> ClientState:
    """Return what a client keeps with the part of one owner; an empty one takes the old away."""
    return {**kept, owner: part} if part or owner in kept else kept
