"""The workload in this package: clients in threads of one process."""

from workload import arguments, workload

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec


def main(codec: Codec) -> None:
    case, rounds, out = arguments()
    work = workload(case, rounds)
    model, strategy = work.new_model(), strategies.fedavg()
    records = list(federated.rounds(model, work.clients, strategy, work.plan, codec=codec))
    assert not any(record.left_out for record in records)
    work.report(out, [record.seconds for record in records], model)


if __name__ == "__main__":
    main(wire.touched_rows())
