"""What makes one thing another: fingerprints by which a checkpoint recognises its run.

`repr` is none: models that print alike may pool differently, and a reader's own transform prints
as an address. Here all that a value holds is taken in, down to the code of a reader's functions.
"""

import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)
_LIBRARIES = ("fedlab_helpers", "torch", "numpy", "builtins", "functools")  # known by their names


def digest(value: Any) -> str:
    """Return a fingerprint of a value, the same for equal content: tensors by their bytes, objects
    by what they hold, functions by their code, what they close over and the globals they name."""
    total = hashlib.blake2b(digest_size=16)
    for part in _parts(value, ()):
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()


def known_as(value: Any) -> str:
    """Return how a value prints, cut and without addresses, and its fingerprint."""
    shown = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))[:300]
    return f"{shown} ({digest(value)[:12]})"


def _parts(value: Any, path: tuple[int, ...]) -> Iterator[bytes]:
    """Yield what a value is made of, as bytes; `path` are the values that it stands in."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
        return
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {value.tolist()!r}".encode()
    elif id(value) not in path:
        inside = next((of for kind, of in _INSIDE if isinstance(value, kind)), _of_object)
        for inner in inside(value):
            yield from _parts(inner, (*path, id(value)))


def _of_object(value: Any) -> Iterator[Any]:
    """Yield what an object holds; a module's mode and the values of its weights come and go."""
    held = dict(getattr(value, "__dict__", {}))
    held |= {n: getattr(value, n) for n in getattr(value, "__slots__", ()) if hasattr(value, n)}
    if isinstance(value, nn.Module):
        fleeting = ("training", "generator", "_flat_weights", "_flat_weight_refs")  # nn.LSTM's
        held = {name: inner for name, inner in held.items() if name not in fleeting}
        for kind in ("_parameters", "_buffers"):
            held[kind] = {n: t is not None and tuple(t.shape) for n, t in held[kind].items()}
    yield from (type(value), held)


def _of_class(kind: type) -> Iterator[Any]:
    yield f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.split(".")[0] not in _LIBRARIES:
        yield from kind.__bases__
        for name, member in sorted(vars(kind).items()):
            member = getattr(member, "fget", getattr(member, "__func__", member))
            told = isinstance(member, (*_PLAIN, types.FunctionType, tuple))
            if told and name not in ("__module__", "__doc__", "__firstlineno__"):
                yield from (name, member)


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield f"{function.__module__}.{function.__qualname__}"
    local = "<locals>" in function.__qualname__
    if local or (function.__module__ or "").split(".")[0] not in _LIBRARIES:
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            yield getattr(cell, "cell_contents", None)
        for name in function.__code__.co_names:  # numbers and functions that it looks up by name
            found = function.__globals__.get(name)
            if isinstance(found, (*_PLAIN, types.FunctionType, tuple, torch.Tensor)):
                yield from (name, found)


_INSIDE = (
    (Mapping, lambda v: sorted(((repr(key), v[key]) for key in v), key=lambda item: item[0])),
    (list | tuple, iter),
    (set | frozenset, lambda v: [sorted(map(digest, v))]),
    (types.FunctionType, _of_function),
    (types.CodeType, attrgetter("co_code", "co_names", "co_consts")),
    (types.MethodType, attrgetter("__func__", "__self__")),
    (functools.partial, attrgetter("func", "args", "keywords")),
    (type, _of_class),
    (types.ModuleType | types.BuiltinFunctionType, lambda v: [v.__name__]),
    (torch.Generator, lambda v: [v.get_state()]),
)
