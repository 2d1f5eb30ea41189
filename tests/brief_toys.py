"""A brief of small series, on which a design is run within a second."""

from contextlib import contextmanager

import torch
from owner_toys import EACH, SLOPES, make_owners

from fedlab_helpers.studies import briefs, by_sums, design
from fedlab_helpers.tasks.series import SeriesRNN

LIMITS = {"megabytes_up": 0.1, "cpu_seconds": 100, "device_kilobytes": 5, "losing": 0.5}


def slope_of(data):
    """Return the model of one slope, by the sums of products."""
    seen, wanted = data.inputs[0][..., 0], data.targets
    asked = ~wanted.isnan()
    slope = float((seen * wanted.nan_to_num())[asked].sum() / (seen[asked] ** 2).sum())

    def judges(test):
        answers = slope * test.inputs[0][..., 0]
        return test.objective.judge(answers, test.targets)

    return judges


def sums(clients):
    """Return what sums over all clients make, in one exchange."""
    whole = type(clients[0])(
        (torch.cat([data.inputs[0] for data in clients]),),
        torch.cat([data.targets for data in clients]),
        EACH,
    )
    return [by_sums.Fitted(slope_of(whole), 16 * len(clients), 8 * len(clients), 1, 8)]


def toy_brief(**options):
    """Return the brief; options as of `Brief`."""
    own = {
        "name": "toy",
        "owners": lambda seed: make_owners(seed, **(SLOPES | {"dan": 2.0, "eve": -0.5})),
        "new_model": lambda cell, size, seed: SeriesRNN(
            1, size, cell=cell, each_step=True, seed=seed
        ),
        "sums": sums,
        "alone": slope_of,
        "limits": LIMITS,
        "measure": "rmse",
        "higher_is_better": False,
    }  # fmt: skip
    return briefs.Brief(**own | options)


@contextmanager
def entered(monkeypatch, brief):
    """Enter a brief among those there are, and forget what is known of it afterwards."""
    monkeypatch.setitem(briefs.BRIEFS, brief.name, brief)
    for kept in (briefs.owners_of, briefs.alone):
        kept.cache_clear()
    monkeypatch.setattr(design, "yard", lambda: design.YARD)
    yield brief
    for kept in (briefs.owners_of, briefs.alone):
        kept.cache_clear()
