"""Every word that a plot or a panel shows, in one place, so that another edition can follow."""

ENGLISH = {
    "round": "round",
    "accuracy": "accuracy on test reviews",
    "loss": "loss on test reviews (nats)",
    "train_loss": "training loss (nats)",
    "bytes_up": "bytes sent by clients",
    "bytes_down": "bytes sent to clients",
    "total_bytes": "bytes sent, both ways",
    "total_megabytes": "megabytes sent, both ways",
    "seconds": "seconds",
    "reviews": "reviews",
    "hotel": "hotel",
    "book": "book",
    "laptop": "laptop",
    "other": "other",
    "0": "negative",
    "1": "positive",
    "predicted": "predicted class",
    "actual": "label",
    "confidence": "probability the model gives its answer",
    "share_correct": "share of answers that are right",
    "perfectly_calibrated": "perfectly calibrated",
    "model": "model",
    "progress": "round {round}: accuracy {accuracy:.1%}",
    "holders": "clients that have the word",
    "row_change": "length of its row's change",
    "steps_back": "steps back in time",
    "spectral_radius": "spectral radius",
    "gradient_length": "length of the gradient (1 at the start)",
    "inputs_scale": "size of the inputs",
    "client": "client",
    "share_of_client": "share of the client's reviews",
    "label_divergence": "labels differ by {bits:.2f} bits",
    "domain_divergence": "domains by {bits:.2f} bits",
    "cosine": "cosine of the angle",
    "clients_sorted": "clients, from the worst to the best served",
    "own_accuracy": "accuracy on reviews like its own",
    "partition_kind": "kind of difference",
    "partition_alpha": "alpha (small: unlike)",
    "partition_clients": "clients",
    "partition_seed": "seed",
    "partition_readout": (
        "{clients} clients of {smallest} to {largest} reviews; {onesided} of them see one label in "
        "at least 95 of 100 reviews."
    ),
    "partition_refused": "This cannot be dealt: {why}",
    "re_run": "Re-run this cell after a restart of the kernel.",
    "gradient_readout": (
        "{steps} steps back, at radius {radius:.2f} and inputs of size {scale:g}: "
        "the gradient is {length:.1e} times as long as at the start."
    ),
}


# The strategy lab: names of strategies, deals and attacks, descriptions of controls, messages.
ENGLISH |= {
    "fedavg": "FedAvg",
    "uniform": "plain mean",
    "rowwise": "FedAvg, row by row",
    "inverse_loss": "mean by 1/loss",
    "by_norm": "mean by norm",
    "fedatt": "FedAtt",
    "calibrated": "calibrated logits",
    "fednova": "FedNova",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
    "feddyn": "FedDyn",
    "fedavgm": "FedAvgM",
    "fedadagrad": "FedAdagrad",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "qfedavg": "q-FedAvg",
    "worst_group": "worst group first",
    "median": "median",
    "trimmed_mean": "trimmed mean",
    "krum": "Krum",
    "geometric_median": "geometric median",
    "norm_clipping": "norm clipping",
    "iid": "at random (IID)",
    "dirichlet": "labels, Dirichlet",
    "shards": "one label a client",
    "quantity": "sizes by a power law",
    "by_domain": "one domain a client",
    "domain_dirichlet": "domains, Dirichlet",
    "mixture": "half random, half Dirichlet",
    "flip_labels": "labels swapped",
    "sign": "change reversed, 3-fold",
    "scale": "change 10 times as long",
    "noise": "noise instead",
    "nan": "not a number",
    "adam": "Adam",
    "sgd": "plain SGD",
    "strategy": "strategy",
    "server_rate": "server rate",
    "optimizer": "clients train with",
    "lr": "client rate",
    "epochs": "local epochs",
    "partition": "reviews are dealt",
    "alpha": "alpha",
    "alpha_help": "the smaller, the more the clients differ",
    "clients": "clients",
    "cohort": "cohort of a round",
    "attackers": "share of attackers",
    "attack": "their attack",
    "rounds": "rounds",
    "seed": "seed",
    "target": "target accuracy",
    "parameter": "its {name}",
    "no_parameters": "This strategy has no parameter of its own.",
    "unused": "{control} (not used)",
    "line_up": "Line up",
    "run": "Run",
    "stop": "Stop",
    "drop": "Drop",
    "save": "Save CSV",
    "line_up_help": "Let these settings race in the next run",
    "run_help": "Race the settings that are lined up, or these alone",
    "runs": "run to drop",
    "file": "file to save",
    "ready": "Choose settings and press Run; or line up several, and let them race.",
    "lined_up": "Lined up: {names}. (The same settings again: taken out.)",
    "racing": "Running: {progress}.",
    "racer": "{name}, round {round} of {rounds}, clients trained: {trained} of {cohort}",
    "ended": "Done: {outcomes}.",
    "outcome": "{name}, {state}",
    "outcome_why": "{name}, {state} ({why})",
    "from_cache": "Already run with these settings, shown at once: {names}.",
    "not_run": "Not run. {why}",
    "busy": "A race is still running: press Stop first.",
    "error": "Something went wrong: {why}",
    "saved": "{count} runs saved as {file}.",
    "nothing_to_save": "There is no run to save yet.",
    "name": "run",
    "differs": "where they differ",
    "state": "state",
    "final_accuracy": "final accuracy",
    "best_accuracy": "best accuracy",
    "rounds_to_target": "rounds to target",
    "megabytes_to_target": "MB to target",
    "race_accuracy": "accuracy (validation)",
    "race_loss": "loss (validation, nats)",
    "race_total_megabytes": "megabytes, both ways",
    "centralised": "centralised",
    "majority": "majority class",
    "bad_partition": (
        "The reviews cannot be dealt to the clients like this; choose fewer or more clients, or "
        "another deal. ({why})"
    ),
    "bad_plan": (
        "Rounds, client rate, local epochs and cohort do not fit; a cohort is at least one client "
        "and at most all of them. ({why})"
    ),
    "bad_strategy": "A parameter of the strategy is out of range. ({why})",
    "bad_cohort": (
        "The strategy cannot work with a cohort of this size; choose a larger cohort or smaller "
        "parameters. ({why})"
    ),
    "bad_attackers": "The share of attackers must be from 0 to 1. ({why})",
    "no_attackers": (
        "{share:.0%} of {clients} clients is less than one: nobody would attack. Choose a larger "
        "share or more clients, or 0."
    ),
    "made_for_sgd": (
        "{strategy} was made for clients that train with plain SGD; with Adam its formula is a "
        "rule of thumb. Set “clients train with” to plain SGD to see it as it was meant."
    ),
}


def text(key: str, **values: object) -> str:
    """Return what a figure shows for `key`; a key that is not in the table is shown as it is."""
    return ENGLISH.get(key, key).format(**values)
