"""What makes one thing another: fingerprints by which a checkpoint recognises its run.

`repr` is none: models that print alike may pool differently, and a reader's own transform prints
as an address. Here all that a value holds is taken in, down to the code of a reader's functions.
"""

import contextlib
import dis
import functools
import hashlib
import re
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)
_OURS = ("fedlab_helpers", "torch", "numpy")  # wherever they lie
_HELD = (*_PLAIN, types.FunctionType, functools.partial, tuple, list, set, frozenset, deque)
_HELD += (Mapping, np.ndarray, torch.Tensor, type)
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_CODE = (type, types.FunctionType, types.CodeType)  # which refer to each other, and back


def digest(value: Any) -> str:
    """Return a fingerprint of a value, the same for equal content: tensors by their bytes, objects
    by what they hold, functions by their code, what they close over and the globals they name."""
    return _digest(value, (), {}).hex()


def _digest(value: Any, path: tuple[int, ...], known: dict[int, bytes]) -> bytes:
    """Return a fingerprint; `path` are the values that this one stands in, `known` those of code
    that was met before."""
    if id(value) in known:
        return known[id(value)]
    total = hashlib.blake2b(digest_size=16)
    for part in _parts(value, path, known):
        total.update(len(part).to_bytes(8, "little") + part)
    if isinstance(value, _CODE):
        known[id(value)] = total.digest()
    return total.digest()


def known_as(value: Any) -> str:
    """Return how a value prints, cut and without addresses, and its fingerprint."""
    shown = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))[:300]
    return f"{shown} ({digest(value)[:12]})"


def _parts(value: Any, path: tuple[int, ...], known: dict[int, bytes]) -> Iterator[bytes]:
    """Yield what a value is made of, as bytes; what it holds by its fingerprint."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
        return
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        value = value if value.layout == torch.strided else value.to_dense()
        if value.device.type == "meta":  # it has no values
            return
        value = value.resolve_conj().resolve_neg()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {value.tolist()!r}".encode()
    elif id(value) not in path:
        inside = next((of for kind, of in _INSIDE if isinstance(value, kind)), _of_object)
        for inner in inside(value):
            yield _digest(inner, (*path, id(value)), known)


def _of_object(value: Any) -> Iterator[Any]:
    """Yield what an object holds; a module's mode and the values of its weights come and go."""
    held = dict(getattr(value, "__dict__", {}))
    slots = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
    names = (n for own in slots for n in ([own] if isinstance(own, str) else own))
    held |= {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, nn.Module):
        fleeting = ("training", "generator", "_flat_weights", "_flat_weight_refs")  # nn.LSTM's
        held = {name: inner for name, inner in held.items() if name not in fleeting}
        for kind in ("_parameters", "_buffers"):
            own = held[kind].items()
            held[kind] = {n: t is not None and (*t.shape, t.requires_grad) for n, t in own}
    yield from (type(value), held)
    if not held or type(value).__reduce__ is not object.__reduce__:  # a range, a generator, …
        with contextlib.suppress(Exception):  # nothing that could be written down
            yield value.__reduce_ex__(4)


def _of_class(kind: type) -> Iterator[Any]:
    yield f"{kind.__module__}.{kind.__qualname__}"
    if not _by_name(kind.__module__):
        yield from kind.__bases__
        for name, member in sorted(vars(kind).items()):
            member = getattr(member, "fget", getattr(member, "__func__", member))
            if isinstance(member, _HELD) and name not in (
                "__module__",
                "__doc__",
                "__firstlineno__",
            ):
                yield from (name, member)


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield f"{function.__module__}.{function.__qualname__}"
    if "<locals>" in function.__qualname__ or not _by_name(function.__module__):
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            yield getattr(cell, "cell_contents", None)
        for name in _names(function.__code__):  # what it looks up, but for modules
            found = function.__globals__.get(name)
            if isinstance(found, _HELD) or is_dataclass(found):
                yield from (name, found)


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the globals that a function's code looks up, and the functions within it."""
    looks = (step for step in dis.get_instructions(code) if step.opname in _GLOBAL)
    yield from dict.fromkeys(step.argval for step in looks)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _by_name(module: str | None) -> bool:
    """Return whether what a module holds is known by its name: it is of a library."""
    root = (module or "").split(".")[0]
    found = sys.modules.get(root)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), "")
    installed = {"site-packages", "dist-packages"} & {*Path(file).parts}
    return bool(installed) or root in (*_OURS, *sys.stdlib_module_names)


_INSIDE = (
    (Mapping, lambda v: sorted(((repr(key), v[key]) for key in v), key=lambda item: item[0])),
    (list | tuple | deque, iter),
    (set | frozenset, lambda v: [sorted(map(digest, v))]),
    (types.FunctionType, _of_function),
    (types.CodeType, attrgetter("co_code", "co_names", "co_consts")),
    (types.MethodType, attrgetter("__func__", "__self__")),
    (functools.partial, attrgetter("func", "args", "keywords")),
    (type, _of_class),
    (types.ModuleType | types.BuiltinFunctionType, lambda v: [v.__name__]),
    (torch.Generator, lambda v: [v.get_state()]),
)
