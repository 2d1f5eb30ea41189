"""Error feedback: what compression loses is kept by the client, and sent along another time."""

from dataclasses import dataclass, replace

import torch

from fedlab_helpers.compression.codec import Compressed, loses
from fedlab_helpers.compression.keep import TopK
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec, Update
from fedlab_helpers.core.require import require, require_positive, require_share
from fedlab_helpers.core.state import State, norm

_TURNS = "turns"


@dataclass(frozen=True)
class WithFeedback(Codec):
    """A codec whose clients remember what was not sent, and add it to what they send next.

    Seide et al. 2014, doi:10.21437/Interspeech.2014-274; Karimireddy et al. 2019,
    arXiv:1901.09847, Algorithm 2 ("EF-SGD"): with e what is kept and Δ the update, C(e + Δ) is
    sent and e + Δ - C(e + Δ) is kept. With momentum it is Deep Gradient Compression, Lin et al.
    2018, arXiv:1712.01887, sections 3.1 to 3.3, with a client's update in place of a gradient.

    A client that is not asked keeps what it has; so does one whose payload was refused. What a
    strategy sends beside the change is compressed, but not fed back: the strategy settles that
    itself (`Strategy.settle`).

    Args:
        codec: what is sent; one that loses less than there was (`contracts`).
        momentum: m of u ← m u + Δ, v ← v + u, where v takes the place of e + Δ; what was sent is
            forgotten in both ("momentum factor masking"). Only where `codec` sends the largest
            values, as nothing else says what was sent.
        max_norm: a longer update is first scaled down to this Euclidean norm; None: never.
        warmup: shares of the largest values that a client sends in its first turns, one each.
    """

    codec: Compressed
    momentum: float = 0.0
    max_norm: float | None = None
    warmup: tuple[float, ...] = ()
    changes_only = True

    def __post_init__(self):
        require_contraction(self.codec)
        require(hasattr(self.codec, "keep"), "codec", self.codec, "a Compressed one")
        require_share(momentum=self.momentum)
        if self.max_norm is not None:
            require_positive(max_norm=self.max_norm)
        fine = isinstance(self.codec.keep, TopK) or not (self.momentum or self.warmup)
        require(fine, "codec", self.codec, "TopK where there is momentum or warm-up")
        for share in self.warmup:
            TopK(share)  # raises where it is none

    @property
    def keeps_rows(self) -> bool:
        return self.codec.keeps_rows

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        return self.codec.encode(state, rng)

    def decode(self, payload: bytes) -> State:
        return self.codec.decode(payload)

    def pack(
        self, update: Update, kept: State, like: State, rng: torch.Generator | None = None
    ) -> tuple[bytes, State]:
        """Return the bytes a client sends, and what it keeps for its next turn; as `wire.send`."""
        turns = int(kept[_TURNS][0]) if kept else 0
        tensors = wire.to_tensors(_clipped(update, self.max_norm), self.codec, like)
        rows = {name: tensor for name, tensor in tensors.items() if name.startswith("rows.")}
        if kept:
            _require_same_rows(rows, kept)
        steps = {n: t for n, t in tensors.items() if n.startswith("delta.")}
        steps = {n: t for n, t in steps.items() if loses(t.dtype, t.shape)}
        if self.momentum:
            steps = _add(steps, kept, "momentum", self.momentum)
        wanted = _add(steps, kept, "residual")
        payload = self._codec_of(turns).encode({**tensors, **wanted}, rng)
        sent = self.codec.decode(payload)
        kept = {**rows, _TURNS: torch.tensor([turns + 1], device="cpu")}
        for name, value in wanted.items():
            kept[f"residual/{name}"] = value - sent[name]
            if self.momentum:
                kept[f"momentum/{name}"] = steps[name].where(sent[name] == 0, 0)
        return payload, kept

    def _codec_of(self, turns: int) -> Compressed:
        if turns >= len(self.warmup):
            return self.codec
        return replace(self.codec, keep=replace(self.codec.keep, share=self.warmup[turns]))


def dgc(codec: Compressed, momentum: float = 0.9, max_norm: float | None = None) -> WithFeedback:
    """Return Deep Gradient Compression: momentum correction, clipping, and a warm-up in which a
    client's first four turns send 25%, 6.25%, 1.56% and 0.4%, as far as that is above the
    codec's own share. Lin et al. 2018, arXiv:1712.01887, section 3.3."""
    warmup = [0.25**turn for turn in range(1, 5)]
    steps = tuple(share for share in warmup if share > codec.keep.share)
    return WithFeedback(codec, momentum, max_norm, steps)


def require_contraction(codec: Codec) -> None:
    """Raise a ValueError if a codec may lose more than there was: fed back, that grows and grows.

    Lossless codecs, and a reader's own, are not looked at.
    """
    require(not hasattr(codec, "pack"), "codec", codec, "one without feedback of its own")
    if not getattr(codec, "contracts", True):
        raise ValueError(
            f"codec: got {codec!r}, which may lose more than there was, and error feedback would "
            "blow that up; expected RandomK(scaled=False), Quantized(stochastic=False), or another "
            "codec that `contracts`"
        )


def _clipped(update: Update, max_norm: float | None) -> Update:
    length = norm(update.delta)
    if max_norm is None or length <= max_norm:
        return update
    scale = max_norm / length
    return replace(update, delta={name: t * scale for name, t in update.delta.items()})


def _add(steps: State, kept: State, what: str, factor: float = 1.0) -> State:
    """Return the tensors, each plus what is kept for it; nothing is, the first time."""
    return {
        name: tensor + factor * kept[key] if (key := f"{what}/{name}") in kept else tensor
        for name, tensor in steps.items()
    }


def _require_same_rows(rows: State, kept: State) -> None:
    before = {name: tensor for name, tensor in kept.items() if name.startswith("rows.")}
    if rows.keys() != before.keys() or any(not torch.equal(rows[n], before[n]) for n in rows):
        raise ValueError(
            "kept: what the client remembers is of other rows than it trains now; its reviews, or "
            "the strategy, changed"
        )
