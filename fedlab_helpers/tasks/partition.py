"""Who holds what: lists of example indices, one for each client.

Each function raises a ValueError where the examples are too few for the clients, where a number is
out of range, and where labels or domains that it looks at are no classes, one an example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import is_number, require, require_count, require_positive

if TYPE_CHECKING:
    import pandas as pd

Parts = list[np.ndarray]  # one sorted int64 array of indices a client


@dataclass(frozen=True, eq=False)
class Dealt(Sequence[Examples]):
    """The examples of many clients, each put together from one set when it is asked for: in memory
    there is one copy, however many clients hold it.

    Args:
        data: all examples.
        parts: the indices of each client.
    """

    data: Examples
    parts: Parts

    @property
    def objective(self) -> Objective:
        """What all clients are asked."""
        return self.data.objective

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, client: int) -> Examples:
        return self.data.subset(self.parts[client])


def iid(labels: Sequence[int], n_clients: int, rng: np.random.Generator) -> Parts:
    """Deal the examples at random, in sizes that differ by at most one: every client is a small
    picture of the whole."""
    _require_enough(len(labels), n_clients)
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), n_clients)]


def dirichlet(
    labels: Sequence[int], n_clients: int, rng: np.random.Generator, alpha: float, min_size: int = 1
) -> Parts:
    """Split each class over the clients by shares drawn from a symmetric Dirichlet(alpha).

    Large `alpha` comes close to equal shares; small `alpha` gives most of a class to few clients
    (Hsu et al. 2019, arXiv:1909.06335, apply it to label shares in the same spirit). A client
    with less than `min_size` examples is then filled up from the largest one. With domains in
    the place of labels, it is the domains that are dealt unevenly.
    """
    require_positive(alpha=alpha)
    require_count(min_size=min_size)
    _require_enough(len(labels), n_clients, min_size)
    labels = _classes(labels)
    owner = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet(np.full(n_clients, alpha))) * len(members)
        owner[members] = np.searchsorted(ends[:-1], np.arange(len(members)), side="right")
    _fill_up(owner, n_clients, min_size, rng)
    return [np.flatnonzero(owner == client) for client in range(n_clients)]


def by_domain(domains: Sequence[str], n_clients: int, rng: np.random.Generator) -> Parts:
    """Give each client reviews of one domain only: a hotel's guests, a bookshop's readers.

    A domain gets clients in proportion to its reviews, at least one; clients of one domain are
    of equal size. Clients come in the order of the domains' names.
    """
    _require_enough(len(domains), n_clients)
    domains = _classes(domains, "domains")
    names, sizes = np.unique(domains, return_counts=True)
    expected = f"at least one for each of the {len(names)} domains {names.tolist()}"
    require(n_clients >= len(names), "n_clients", n_clients, expected)
    counts = np.ones(len(names), dtype=np.int64)
    for _ in range(n_clients - len(names)):
        counts[np.argmax(sizes / counts)] += 1
    return [
        np.sort(part)
        for name, count in zip(names, counts, strict=True)
        for part in np.array_split(rng.permutation(np.flatnonzero(domains == name)), count)
    ]


def shards(
    labels: Sequence[int], n_clients: int, rng: np.random.Generator, per_client: int = 2
) -> Parts:
    """Sort the examples by label, cut them into equal shards, and deal each client some.

    The pathological split of McMahan et al. 2017 (arXiv:1602.05629, section 3): a shard lies
    within one label, or across the border of two, so a client of `per_client` shards seldom sees
    more labels than that. With two labels, `per_client=1` gives one-sided clients.
    """
    require_count(per_client=per_client)
    _require_enough(len(labels), n_clients, per_client)
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[_classes(labels)[shuffled].argsort(kind="stable")]
    cut = np.array_split(by_label, n_clients * per_client)
    dealt = rng.permutation(len(cut)).reshape(n_clients, per_client)
    return [np.sort(np.concatenate([cut[shard] for shard in mine])) for mine in dealt]


def quantity(
    labels: Sequence[int],
    n_clients: int,
    rng: np.random.Generator,
    exponent: float = 1.0,
    min_size: int = 1,
) -> Parts:
    """Deal the examples at random, in sizes that follow a power law.

    Beyond its `min_size`, client k (from 0) gets a share proportional to (k + 1)^-exponent: the
    first client is the largest. An exponent of 0 makes all sizes equal.
    """
    require(is_number(exponent, 0), "exponent", exponent, "a finite number not below 0")
    require_count(min_size=min_size)
    _require_enough(len(labels), n_clients, min_size)
    law = np.arange(1, n_clients + 1, dtype=np.float64) ** -exponent
    spare = len(labels) - n_clients * min_size
    ends = np.rint(np.cumsum(law / law.sum()) * spare).astype(np.int64)
    ends += min_size * np.arange(1, n_clients + 1)
    return [np.sort(part) for part in np.split(rng.permutation(len(labels)), ends[:-1])]


def mixture(
    labels: Sequence[int],
    n_clients: int,
    rng: np.random.Generator,
    share: float,
    skewed: Callable[[np.ndarray, int, np.random.Generator], Parts],
) -> Parts:
    """Deal a random share of the examples as `iid` does, and the others as `skewed` does.

    Args:
        labels: what `skewed` is to look at: classes or domains.
        share: of the examples that are dealt at random, from 0 to 1.
        skewed: called with (labels, n_clients, rng), e.g.
            `lambda *args: partition.dirichlet(*args, alpha=0.1)`.
    """
    require(0 <= share <= 1, "share", share, "a number from 0 to 1")
    _require_enough(len(labels), n_clients)
    labels = np.asarray(labels)
    order = rng.permutation(len(labels))
    cut = round(share * len(labels))
    dealt = [
        [pool[part] for part in deal(labels[pool], n_clients, rng)]
        for pool, deal in ((order[:cut], iid), (order[cut:], skewed))
        if len(pool)
    ]
    return [np.sort(np.concatenate(mine)) for mine in zip(*dealt, strict=True)]


def describe(
    parts: Parts, labels: Sequence[int], domains: Sequence[str] | None = None
) -> "pd.DataFrame":
    """Return how unlike the clients are, one row a client.

    Args:
        parts: each client's indices.
        labels: of all examples.
        domains: of all examples; None: they are not looked at.

    Returns:
        Columns "size"; "label …" and "domain …", the share of the client's examples; and
        "label divergence" and "domain divergence", the Jensen-Shannon divergence in bits between
        these shares and those of all clients together: 0 where they are the same, at most 1
        (Lin 1991, doi:10.1109/18.61115).
    """
    import pandas as pd  # takes half a second to load, as does SciPy
    from scipy.special import rel_entr

    columns = {"size": [len(part) for part in parts]}
    require(parts and min(columns["size"]) > 0, "parts: sizes", columns["size"], "all above 0")
    for kind, values in (("label", labels), ("domain", domains)):
        if values is None:
            continue
        names, codes = np.unique(_classes(values, f"{kind}s"), return_inverse=True)
        counts = np.array([np.bincount(codes[part], minlength=len(names)) for part in parts])
        shares = counts / counts.sum(axis=1, keepdims=True)
        columns |= {f"{kind} {n}": shares[:, i] for i, n in enumerate(names)}
        whole = counts.sum(0) / counts.sum()
        middle = (shares + whole) / 2
        # SciPy's jensenshannon is not a number where two shares are the same but for rounding.
        nats = (rel_entr(shares, middle) + rel_entr(whole, middle)).sum(axis=1) / 2
        columns[f"{kind} divergence"] = nats.clip(0) / np.log(2)
    return pd.DataFrame(columns).rename_axis("client")


def _classes(labels: Sequence[int] | Sequence[str], argument: str = "labels") -> np.ndarray:
    """Return labels, whole numbers or names, as an array, (N,); raise ValueError for any other."""
    found = np.asarray(labels)
    expected = "one class an example, (N,)"
    require(found.ndim == 1, f"{argument}: shape", found.shape, expected)
    kinds = {type(label) for label in found} if found.dtype == object else {found.dtype.type}
    allowed = (str, bool, int, np.integer, np.bool_)
    if odd := sorted(kind.__name__ for kind in kinds if not issubclass(kind, allowed)):
        raise ValueError(
            f"{argument}: got {odd[0]} values, expected classes: whole numbers or names, none "
            "missing. Bin a continuous target first, e.g. pandas.qcut(targets, 4, labels=False), "
            "in equal parts, or np.digitize(targets, edges)"
        )
    return found


def _require_enough(n_examples: int, n_clients: int, min_size: int = 1) -> None:
    require_count(n_clients=n_clients)
    if n_clients * min_size > n_examples:
        raise ValueError(
            f"n_clients: {n_clients} clients with at least {min_size} example(s) each need "
            f"{n_clients * min_size} examples, got {n_examples}"
        )


def _fill_up(owner: np.ndarray, n_clients: int, min_size: int, rng: np.random.Generator) -> None:
    """Move examples, in place, from the largest client to any that has less than `min_size`."""
    sizes = np.bincount(owner, minlength=n_clients)
    for client in np.flatnonzero(sizes < min_size):
        while sizes[client] < min_size:
            giver = int(np.argmax(sizes))
            owner[rng.choice(np.flatnonzero(owner == giver))] = client
            sizes[giver] -= 1
            sizes[client] += 1
