"""Train over the clients, and say what it was worth: python train.py"""

import argparse
from dataclasses import replace

import torch
from task import DATA, examples, new_model
from torch import nn

from fedlab_helpers import (
    Examples,
    History,
    LocalConfig,
    Plan,
    evaluate,
    of_model,
    run,
    strategies,
    train,
)

PLAN = Plan(rounds=8, local=LocalConfig(epochs=1, batch_size=16, lr=1e-2), seed=0)


def client_files() -> list:
    """Return the file of each client; what is in it no other client sees."""
    return sorted(DATA.glob("client*.csv"), key=lambda path: int(path.stem[6:]))


def federated(clients: list[Examples], validation: Examples, plan: Plan) -> tuple:
    """Return the model that all train together, and the records of its rounds."""
    model = new_model()
    history: History = run(model, clients, strategies.fedavg(), plan, test=validation)
    return model, history


def alone(client: Examples, plan: Plan) -> nn.Module:
    """Return what a client has without the others, after as many epochs."""
    model = new_model()
    local = replace(plan.local, epochs=plan.rounds * plan.local.epochs)
    train(model, client, local, seed=plan.seed)
    return model


def main() -> None:
    """Train, and print what every way is worth on the validation file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=PLAN.rounds)
    plan = replace(PLAN, rounds=parser.parse_args().rounds)
    clients = [examples(path) for path in client_files()]
    validation = examples(DATA / "validation.csv")
    measure = validation.objective.measure
    model, history = federated(clients, validation, plan)
    for record in history:
        sent = (record.bytes_up + record.bytes_down) / 1e6
        print(f"round {record.round}: {measure} {record.metrics[measure]:.3f}, {sent:.1f} MB")
    own = [evaluate(alone(client, plan), validation)[measure] for client in clients]
    print(f"untrained:       {measure} {evaluate(new_model(), validation)[measure]:.3f}")
    print(f"each alone:      {measure} {min(own):.3f} to {max(own):.3f}")
    print(f"federated:       {measure} {evaluate(model, validation)[measure]:.3f}")
    torch.save(of_model(model), weights := DATA.parent / "model.pt")
    print(f"weights: {weights}; data/test.csv is still unseen: open it once, at the end")


if __name__ == "__main__":
    main()
