"""The workload in Flower's simulation engine, with the apps of `fedlab_helpers.network`."""

from workload import arguments, workload

from fedlab_helpers.network import runs
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.machines import Network
from fedlab_helpers.network.node import write_reviews


def main() -> None:
    case, rounds, out = arguments()
    work, folder = workload(case, rounds), out.with_suffix("")
    owned = ([work.task.train_reviews[place] for place in part] for part in work.parts)
    files = write_reviews(folder / "own", owned)
    job = Job(work.task.vocab.words[2:], work.plan)
    with Network(folder, files, simulated=True, port=18500) as network:
        results = runs.submit(network.folder, job, timeout=600)
        records = list(runs.records(results, timeout=3600))
    assert not any(record.left_out for record in records), records[0].left_out
    model = work.new_model()
    model.load_state_dict(runs.weights(results))
    work.report(out, [record.seconds for record in records], model)


if __name__ == "__main__":
    main()
