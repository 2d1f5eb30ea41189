"""The vocabulary of the seam between client and server: updates, transforms, codecs."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fedlab_helpers.core.state import State, all_finite

ClientState = dict[str, State]  # what one client keeps between rounds, by owner: "private", …


class RefusedUpdate(ValueError):
    """An update that the server does not take into its mean; the message says why."""


@dataclass(frozen=True, eq=False)
class Update:
    """What one client tells the server after its local training.

    Args:
        client: position of the client in the list of clients.
        delta: local weights minus received weights (or the local weights themselves, when the
            strategy asks for those). A tensor named in `touched_rows` holds these rows only.
        touched_rows: tensor name -> its rows in `delta`, (k,) int64, ascending; the others did
            not change.
        examples: reviews trained on, each counted once.
        steps: optimiser steps taken.
        losses: mean training loss of each local epoch, in nats.
        extra: what a strategy asks clients to send beside the change.
    """

    client: int
    delta: State
    touched_rows: dict[str, Tensor] = field(default_factory=dict)
    examples: int = 0
    steps: int = 0
    losses: tuple[float, ...] = ()
    extra: State = field(default_factory=dict)

    def require_fit(self, like: State, extra: State | None = None) -> None:
        """Raise RefusedUpdate unless names, shapes, dtypes, rows and values are acceptable.

        Args:
            like: what a whole `delta` looks like.
            extra: what `extra` looks like; None: it is only checked for finite values.
        """
        if self.delta.keys() != like.keys():
            odd = sorted(self.delta.keys() ^ like.keys())
            raise RefusedUpdate(f"names in the update or in the model, but not in both: {odd}")
        if not self.touched_rows.keys() <= like.keys():
            odd = sorted(self.touched_rows.keys() - like.keys())
            raise RefusedUpdate(f"rows of tensors that the model does not have: {odd}")
        for name, tensor in self.delta.items():
            self._require_tensor_fits(name, tensor, like[name])
        if extra is not None:
            self._require_extra_fits(extra)
        self._require_finite()
        if self.examples < 1 or self.steps < 0 or not self.losses:
            raise RefusedUpdate(
                f"{self.examples} examples, {self.steps} steps and {len(self.losses)} losses are "
                "reported, expected at least 1, 0 and 1"
            )

    def _require_extra_fits(self, like: State) -> None:
        shapes, expected = (
            {name: (tuple(t.shape), t.dtype) for name, t in state.items()}
            for state in (self.extra, like)
        )
        if shapes != expected:
            raise RefusedUpdate(f"beside the change comes {shapes}, expected {expected}"[:500])

    def _require_finite(self) -> None:
        try:
            finite = all_finite(self.delta) and all_finite(self.extra)
        except NotImplementedError as error:  # torch cannot look into every dtype it has
            raise RefusedUpdate(f"a value's dtype cannot be checked: {error}") from error
        if not (finite and all(map(math.isfinite, self.losses))):
            raise RefusedUpdate("a value is NaN or infinite")

    def _require_tensor_fits(self, name: str, tensor: Tensor, like: Tensor) -> None:
        shape = tuple(like.shape)
        if name in self.touched_rows:
            rows = self.touched_rows[name]
            if not shape or rows.dim() != 1:
                raise RefusedUpdate(
                    f"rows of {name!r}, which is {shape}, come as {tuple(rows.shape)}, expected "
                    "(k,), and for tensors that have rows"
                )
            ascending = bool((rows[1:] > rows[:-1]).all())
            inside = len(rows) == 0 or (int(rows[0]) >= 0 and int(rows[-1]) < shape[0])
            if not (ascending and inside):
                raise RefusedUpdate(f"rows of {name!r} must ascend within 0..{shape[0] - 1}")
            shape = (len(rows), *shape[1:])
        if tuple(tensor.shape) != shape or tensor.dtype != like.dtype:
            raise RefusedUpdate(
                f"{name!r} is {tuple(tensor.shape)} {tensor.dtype}, expected {shape} {like.dtype}"
            )


class Transform(Protocol):
    """One step that an update passes on its way to the wire: clip, add noise, compress.

    Transforms run on the client, in the order given to `federated.rounds`.
    """

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        """Return the changed update, and what to keep for this client's next round.

        Args:
            update: as the step before left it; do not change its tensors in place.
            kept: what this transform returned in the client's last accepted round, else {}.
            rng: CPU generator of its own for this seed, round, client and transform.
        """


class Codec(Protocol):
    """Turns named tensors into the bytes that are sent, and back."""

    keeps_rows: bool  # False: row-sparse tensors are made whole before they are encoded

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload; its cost is its length.

        Args:
            state: on the CPU.
            rng: of what is drawn at random; None: torch's global one.
        """

    def decode(self, payload: bytes) -> State:
        """Return the tensors, on the CPU. Raises WireError for anything else than a payload."""
