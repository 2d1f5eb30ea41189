"""Words of figures, and of the first panels."""

FIGURES = {
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
    "0": "negative",
    "1": "positive",
    "predicted": "predicted class",
    "actual": "label",
    "confidence": "probability the model gives its answer",
    "share_correct": "share of answers that are right",
    "perfectly_calibrated": "perfectly calibrated",
    "model": "model",
    "progress": "round {round}: {measure} {value}",
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
    "explorer_kind": "kind of difference",
    "explorer_alpha": "alpha (small: unlike)",
    "explorer_clients": "clients",
    "explorer_seed": "seed",
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
