"""How local training shapes FedAvg: epochs, batch size, and averaging row by row."""

from fedlab_helpers import strategies
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.studies.study import Row, Settings, Study, clients_of, grid, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

STRATEGIES = {"fedavg": strategies.fedavg, "rowwise": strategies.rowwise}


def measure_federated(settings: Settings) -> list[Row]:
    """Return accuracy, loss and bytes after every round of one federated run."""
    data, seed = task(), settings["seed"]
    plan = Plan(
        settings["rounds"],
        settings["cohort"],
        LocalConfig(settings["epochs"], settings["batch_size"], settings["lr"]),
        seed,
    )
    model = SentimentLSTM(len(data.vocab), seed=seed)
    strategy = STRATEGIES[settings["strategy"]]()
    clients = clients_of(settings)
    history = run(model, clients, strategy, plan, test=data.test)
    columns = ["accuracy", "loss", "train_loss", "bytes_up", "total_bytes", "seconds"]
    frame = history.to_frame()[columns].round({"seconds": 3})
    return frame.reset_index().to_dict("records")


def _local_training_runs() -> tuple[Settings, ...]:
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


LOCAL_TRAINING = Study("local_training", _local_training_runs(), measure_federated)
