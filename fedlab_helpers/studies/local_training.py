"""How local training shapes FedAvg: epochs, batch size, and averaging row by row."""

from dataclasses import replace

from fedlab_helpers.core.rounds import run
from fedlab_helpers.studies.study import Row, Settings, Study, begin, grid, recipe_of, task


def measure_federated(settings: Settings) -> list[Row]:
    """Return accuracy, loss and bytes after every round of one federated run."""
    recipe = recipe_of(settings, strategy=settings["strategy"], pooling="last", dropout=0.0)
    *others, plan = begin(recipe, batch_size=settings["batch_size"])
    history = run(*others, replace(plan, workers="auto"), test=task().test)
    columns = ["accuracy", "loss", "train_loss", "bytes_up", "total_bytes", "seconds"]
    frame = history.to_frame()[columns].round({"seconds": 3})
    return frame.reset_index().to_dict("records")


def _runs() -> tuple[Settings, ...]:
    fixed = {"clients": [20], "cohort": [10], "rounds": [15], "lr": [5e-3]}
    compared = [
        ("iid", "fedavg", 1, 32),
        ("iid", "fedavg", 2, 32),
        ("iid", "fedavg", 5, 32),
        ("iid", "fedavg", 1, 8),
        ("iid", "rowwise", 2, 32),
        ("by_domain", "fedavg", 2, 32),
        ("by_domain", "rowwise", 2, 32),
    ]
    names = ("partition", "strategy", "epochs", "batch_size")
    return tuple(
        {**dict(zip(names, case, strict=True)), **rest}
        for rest in grid(**fixed, seed=range(3))
        for case in compared
    )


LOCAL_TRAINING = Study("local_training", _runs(), measure_federated)
