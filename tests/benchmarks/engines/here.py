"""The workload in this package: clients in threads of one process."""

from workload import arguments, workload

from fedlab_helpers import aggregation, federated


def main() -> None:
    case, rounds, out = arguments()
    work = workload(case, rounds)
    model = work.new_model()
    records = list(federated.rounds(model, work.clients, aggregation.fedavg(), work.plan))
    assert not any(record.left_out for record in records)
    work.report(out, [record.seconds for record in records], model)


if __name__ == "__main__":
    main()
