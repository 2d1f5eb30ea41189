"""Who holds what: lists of example indices, one for each client."""

from collections.abc import Sequence

import numpy as np

Parts = list[np.ndarray]  # one sorted int64 array of indices a client


def iid(labels: Sequence[int], n_clients: int, rng: np.random.Generator) -> Parts:
    """Deal the examples at random: every client is a small picture of the whole.

    Client sizes differ by at most one.

    Raises:
        ValueError: there are more clients than examples, or less than one client.
    """
    _require_enough(len(labels), n_clients)
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), n_clients)]


def dirichlet(
    labels: Sequence[int],
    n_clients: int,
    rng: np.random.Generator,
    alpha: float,
    min_size: int = 1,
) -> Parts:
    """Split each class over the clients by shares drawn from a symmetric Dirichlet(alpha).

    Large `alpha` comes close to equal shares; small `alpha` gives most of a class to few clients
    (Hsu et al. 2019, arXiv:1909.06335, apply it to label shares in the same spirit). A client
    with less than `min_size` examples is then filled up from the largest one.

    Raises:
        ValueError: `alpha` is not a finite number above 0, or the clients cannot all have
            `min_size` examples.
    """
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha: got {alpha!r}, expected a finite number above 0")
    if min_size < 1:
        raise ValueError(f"min_size: got {min_size!r}, expected at least 1")
    _require_enough(len(labels), n_clients, min_size)
    labels = np.asarray(labels)
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

    Raises:
        ValueError: there are fewer clients than domains, or more than examples.
    """
    _require_enough(len(domains), n_clients)
    domains = np.asarray(domains)
    names, sizes = np.unique(domains, return_counts=True)
    if n_clients < len(names):
        raise ValueError(
            f"n_clients: got {n_clients}, expected at least one for each of the "
            f"{len(names)} domains {names.tolist()}"
        )
    counts = np.ones(len(names), dtype=np.int64)
    for _ in range(n_clients - len(names)):
        counts[np.argmax(sizes / counts)] += 1
    return [
        np.sort(part)
        for name, count in zip(names, counts, strict=True)
        for part in np.array_split(rng.permutation(np.flatnonzero(domains == name)), count)
    ]


def _require_enough(n_examples: int, n_clients: int, min_size: int = 1) -> None:
    if n_clients < 1:
        raise ValueError(f"n_clients: got {n_clients}, expected at least 1")
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
