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
    "re_run": "Re-run this cell after a restart of the kernel.",
    "gradient_readout": (
        "{steps} steps back, at radius {radius:.2f} and inputs of size {scale:g}: "
        "the gradient is {length:.1e} times as long as at the start."
    ),
}


def text(key: str, **values: object) -> str:
    """Return what a figure shows for `key`; a key that is not in the table is shown as it is."""
    return ENGLISH.get(key, key).format(**values)
