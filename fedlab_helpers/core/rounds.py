"""The round loop of federated learning."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlab_helpers.compression.downlink import Changes, Link
from fedlab_helpers.core import compute, state, wire
from fedlab_helpers.core.checkpoint import Checkpoint, CheckpointError, Snapshot
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.history import History, RoundBooks, RoundRecord
from fedlab_helpers.core.identity import digest
from fedlab_helpers.core.identity import known_as as described
from fedlab_helpers.core.messages import ClientState, Codec, Transform, Workers
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.strategy import ServerState, Strategy, require_cohort
from fedlab_helpers.core.training import Stopped, evaluate
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def rounds(
    model: nn.Module,
    clients: Sequence[EncodedReviews],
    strategy: Strategy,
    plan: Plan,
    *,
    test: EncodedReviews | None = None,
    codec: Codec | None = None,
    downlink: Changes | None = None,
    transforms: Sequence[Transform] = (),
    shared: Callable[[str], bool] = lambda name: True,
    client_states: dict[int, ClientState] | None = None,
    client_devices: Sequence[str | torch.device] | None = None,
    stop: threading.Event | None = None,
    checkpoint: str | Path | None = None,
) -> Iterator[RoundRecord]:
    """Train a model over clients that keep their data, and yield a record after each round.

    After each record the model holds the global weights (with a `downlink`, those that clients
    will hold once they are up to date); it is evaluated where it lies.
    For a progress bar: `for record in tqdm(rounds(…), total=plan.rounds)`.

    Args:
        model: called as `model(tokens, lengths)`; changed in place.
        clients: the reviews of each client.
        strategy: what the server does with the updates.
        plan: rounds, cohort, local training, seed.
        test: reviews to evaluate the global model on; None: no metrics.
        codec: how updates become bytes; None: `wire.touched_rows()`.
        downlink: how the weights' changes are sent to clients; None: the weights, whole.
        transforms: what each update passes, in order, before it is encoded.
        shared: whether the parameter of this name is sent and averaged; the others stay with
            their client, under "private" in its state.
        client_states: what clients keep between rounds, by client; changed in place.
        client_devices: devices that the clients are dealt to in turn; None: the model's.
        stop: once set, training ends between two batches, and the unfinished round is dropped.
        checkpoint: a folder; the run is written there after each round. Where it holds rounds of
            this run already, their records are yielded first and the run goes on from there.

    Raises:
        ValueError: the arguments do not fit each other.
        CheckpointError: the folder is damaged, or holds another run or more rounds than planned.
        NoUpdateLeft: no client of a round sent an update that could be used.
    """
    places = compute.place(len(clients), client_devices or [next(model.parameters()).device])
    crew = Clients(
        model,
        clients,
        places,
        plan.local,
        plan.seed,
        plan.dropout_rate,
        compute.worker_count(plan.workers),
        strategy,
        codec or wire.touched_rows(),
        transforms,
        shared,
        stop,
        plan.pace,
    )
    states = {} if client_states is None else client_states
    return rounds_with(crew, model, strategy, plan, test, downlink, states, checkpoint)


def rounds_with(
    crew: Workers,
    model: nn.Module,
    strategy: Strategy,
    plan: Plan,
    test: EncodedReviews | None = None,
    downlink: Changes | None = None,
    client_states: dict[int, ClientState] | None = None,
    checkpoint: str | Path | None = None,
) -> Iterator[RoundRecord]:
    """As `rounds`, with clients wherever they are; the other arguments are those of `rounds`.

    Args:
        crew: answers requests; `Clients` in this process, or machines in a network.
    """
    _require_fit(downlink, strategy)
    require_cohort(strategy.combine, plan.clients_per_round or crew.size)
    server = strategy.init(_shared_weights(model, crew.shared), crew.size)
    link = Link(server.params, strategy.broadcast(server), downlink, crew.sparse_parameter())
    identity = _identity(crew, strategy, plan, test, downlink)
    store = Checkpoint(checkpoint, identity) if checkpoint else None
    states = {} if client_states is None else client_states
    return _play(model, server, strategy, plan, crew, test, store, states, link)


def _play(
    model: nn.Module,
    server: ServerState,
    strategy: Strategy,
    plan: Plan,
    crew: Workers,
    test: EncodedReviews | None,
    store: Checkpoint | None,
    client_states: dict[int, ClientState],
    link: Link,
) -> Iterator[RoundRecord]:
    """Yield the records of the rounds that are stored, then of those that are left to play."""
    if store and (saved := _load(store, plan)):
        params = {name: saved.server["params"][name] for name in server.params}  # in this order
        memory = {owner: t for owner, t in saved.server.items() if owner != "params"}
        kept = memory.pop("downlink", {})
        server = replace(server, params=params, round=len(saved.records), memory=memory)
        link = link.restored(kept, params, strategy.broadcast(server), server.round)
        client_states.update(saved.clients)
        model.load_state_dict(link.held, strict=False)
        yield from saved.records

    for number in range(server.round + 1, plan.rounds + 1):
        try:
            server, ledger, link = _round(number, server, strategy, plan, crew, client_states, link)
        except Stopped:
            return
        client_states.update(ledger.kept)
        crew.accepted(number, ledger.losses)
        model.load_state_dict(link.held, strict=False)
        due = test is not None and plan.evaluates_after(number)
        record = ledger.record(dict(evaluate(model, test)) if due else {})
        if store:
            server_side = {"params": server.params, **server.memory, "downlink": link.to_state()}
            store.save(server_side, ledger.kept, record)
        yield record


def _round(
    number: int,
    server: ServerState,
    strategy: Strategy,
    plan: Plan,
    crew: Workers,
    client_states: dict[int, ClientState],
    link: Link,
) -> tuple[ServerState, RoundBooks, Link]:
    """Play one round: draw a cohort, send, let it train, average what comes back."""
    cohort = sample_cohort(plan, number, crew.size)
    ledger = RoundBooks(
        number, cohort, crew.codec, server.params, strategy.extra_like(server.params)
    )
    received, link, ledger.bytes_down = link.deliver(cohort)
    # Closed at once, whatever happens: no client trains on after an error.
    with closing(crew.replies(number, cohort, received, client_states)) as replies:
        server = strategy.aggregate(server, ledger.accept(replies))
    rng = compute.torch_rng(plan.seed, "downlink", number)
    return server, ledger, link.advance(server.params, strategy.broadcast(server), rng)


def run(
    model: nn.Module,
    clients: Sequence[EncodedReviews],
    strategy: Strategy,
    plan: Plan,
    **options: Any,
) -> History:
    """Return the records of all rounds; takes what `rounds` takes. The model ends trained."""
    return History(tuple(rounds(model, clients, strategy, plan, **options)))


def sample_cohort(plan: Plan, number: int, n_clients: int) -> tuple[int, ...]:
    """Return the clients of round `number`, ascending, drawn without replacement.

    Raises:
        ValueError: the plan asks for more clients than there are.
    """
    size = n_clients if plan.clients_per_round is None else plan.clients_per_round
    if not 1 <= size <= n_clients:
        raise ValueError(f"clients_per_round: got {size}, expected 1 to {n_clients}, the clients")
    drawn = compute.numpy_rng(plan.seed, "cohort", number).choice(n_clients, size, replace=False)
    return tuple(sorted(drawn.tolist()))


def _shared_weights(model: nn.Module, shared: Callable[[str], bool]) -> state.State:
    """Return a copy of what the server averages, on the CPU."""
    weights = state.to_device(state.of_model(model), "cpu")
    if not any(map(shared, weights)):
        raise ValueError(f"shared: no parameter is; expected at least one of {sorted(weights)}")
    return {name: tensor for name, tensor in weights.items() if shared(name)}


def _require_fit(downlink: Changes | None, strategy: Strategy) -> None:
    if downlink and strategy.sends != "change":
        raise ValueError(
            f"downlink: got {downlink!r}, but a server that is sent whole weights forgets what its "
            "own changes left out; expected a strategy with sends='change'"
        )


def _load(store: Checkpoint, plan: Plan) -> Snapshot | None:
    saved = store.load()
    if saved and len(saved.records) > plan.rounds:
        raise CheckpointError(
            f"{store.folder}: holds {len(saved.records)} rounds, expected at most {plan.rounds}"
        )
    return saved


def _identity(
    crew: Workers,
    strategy: Strategy,
    plan: Plan,
    test: EncodedReviews | None,
    downlink: Changes | None,
) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be of this run; more rounds are welcome."""
    settings = asdict(replace(plan, rounds=1, workers="auto"))
    return {
        **{name: value for name, value in settings.items() if name not in ("rounds", "workers")},
        **crew.identity(),
        "strategy": described(strategy),
        "downlink": described(downlink),
        "test": digest([] if test is None else [test]),
    }
