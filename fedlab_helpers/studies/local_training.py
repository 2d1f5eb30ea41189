"""How local training shapes FedAvg: epochs, batch size, cohort, and averaging row by row."""

from dataclasses import replace

from fedlab_helpers.core.rounds import run
from fedlab_helpers.studies.study import Row, Settings, Study, begin, recipe_of, task


def measure_federated(settings: Settings) -> list[Row]:
    """Return accuracy, loss and bytes after every round of one federated run."""
    recipe = recipe_of(settings, strategy=settings["strategy"], pooling="last", dropout=0.0)
    *others, plan = begin(recipe, batch_size=settings["batch_size"])
    history = run(*others, replace(plan, workers="auto"), test=task().test)
    columns = ["accuracy", "loss", "train_loss", "bytes_up", "total_bytes", "seconds"]
    frame = history.to_frame()[columns].round({"seconds": 3})
    return frame.reset_index().to_dict("records")


def _runs() -> tuple[Settings, ...]:
    names = ("partition", "strategy", "epochs", "batch_size", "cohort", "rounds")
    compared = [
        ("iid", "fedavg", 1, 32, 10, 15),
        ("iid", "fedavg", 2, 32, 10, 15),
        ("iid", "fedavg", 5, 32, 10, 15),
        ("iid", "fedavg", 1, 8, 10, 15),
        ("iid", "rowwise", 2, 32, 10, 15),
        ("by_domain", "fedavg", 2, 32, 10, 15),
        ("by_domain", "rowwise", 2, 32, 10, 15),
        ("iid", "fedavg", 2, 32, 2, 30),  # for the bytes of 6 rounds of 10
        ("iid", "fedavg", 2, 32, 20, 8),
    ]  # fmt: skip
    cases = [dict(zip(names, case, strict=True)) for case in compared]
    order = ("partition", "strategy", "epochs", "batch_size", "clients", "cohort", "rounds", "lr")
    return tuple(
        {name: {"clients": 20, "lr": 5e-3, **case}[name] for name in order} | {"seed": seed}
        for seed in range(3)
        for case in cases
    )


LOCAL_TRAINING = Study("local_training", _runs(), measure_federated)
