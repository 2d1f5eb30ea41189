"""What the commands of a network do: up, node, run, stop, status."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.network import machines, runs
from fedlab_helpers.network.flower import NetworkError
from fedlab_helpers.network.job import CODECS, Job
from fedlab_helpers.network.machines import Member, Network
from fedlab_helpers.network.node import write_reviews
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import LOCAL, Recipe, make_strategy
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.tasks.reviews.task import load_task

PROGRAM = "python -m fedlab_helpers network"


def line(folder: Path, rest: str) -> str:
    """Return a command of this program, as one types it."""
    where = "" if folder == Path("network") else f" --folder {folder}"
    return f"{PROGRAM} {rest}{where}"


def up(chosen: argparse.Namespace) -> int:
    """Start a SuperLink and SuperNodes, and wait; all are ended when this is."""
    files, write = chosen.own, None
    if not files:
        require_count(nodes=chosen.nodes)
        own = chosen.folder / "own" / f"{chosen.partition}-{chosen.nodes}"
        files = [own / f"reviews{client}.csv" for client in range(chosen.nodes)]

        def write() -> None:
            task = load_task()
            parts = task.deal(chosen.partition, chosen.nodes, numpy_rng(0, "partition"))
            owned = ([task.train_reviews[place] for place in part] for part in parts)
            write_reviews(own, owned, task.classes)

    options = {name: getattr(chosen, name) for name in ("secure", "port", "host", "exposed")}
    network = Network(chosen.folder, files, elsewhere=chosen.elsewhere, write=write, **options)

    def tell(client: int, code: int | None) -> None:
        if code is None:
            print(f"client {client}: its node heard nothing any more; started again", flush=True)
            return
        how = "was killed" if code < 0 else f"ended with status {code}"
        again = line(chosen.folder, f"node --client {client}")
        print(f"client {client}: its node {how}; start it again: {again}", flush=True)

    try:
        with network:
            kind = "TLS, nodes with keys" if chosen.secure else "not secured"
            print(f"SuperLink on {network.host}:{network.port} ({kind}), {len(files)} nodes here")
            for client in range(len(files), len(files) + chosen.elsewhere):
                print(f"client {client} is awaited: {_invitation(network, client)}")
            print(f"logs: {network.logs}\nCtrl-C ends all of them.", flush=True)
            network.wait(tell)
    except KeyboardInterrupt:
        print("ended", flush=True)
    return 0


def _invitation(network: Network, client: int) -> str:
    """Return what starts the node of a client elsewhere."""
    server, own = f"--server {network.host}:{network.port}", "--reviews OWN.csv"
    if not network.secure:
        return f"{PROGRAM} node {server} --client {client} {own}"
    key = network.keys / f"client{client}"
    files = f"--certificate {network.keys / 'ca.crt'} --key {key if key.exists() else key.name}"
    return f"with copies of these files, {PROGRAM} node {server} {files} {own}"


def key(chosen: argparse.Namespace) -> int:
    """Make the key of a client on this machine, and a public half for the server's keys folder."""
    from fedlab_helpers.network.keys import make_key

    path = Path(f"client{chosen.client}")
    make_key(path)
    print(f"{path}: stays here; {path}.pub: copy it into the folder keys of the network")
    return 0


def node(chosen: argparse.Namespace) -> int:
    """Start the node of one client, and wait: again that of a network here, or one elsewhere."""
    if chosen.server is None:
        member, goes_on = _member_here(chosen)
    else:
        require(chosen.reviews is not None, "reviews", None, "the file of this client's examples")
        client = chosen.client
        if client is None and chosen.key is not None:
            client = _named_by(chosen.key)
        require(client is not None, "client", None, "--client N, where nodes have no keys")
        where = (chosen.reviews, chosen.server, chosen.folder, chosen.certificate, chosen.key)
        member, goes_on = Member(client, *where), lambda: True
    try:
        with member:
            print(f"client {member.client}, for the SuperLink on {member.server}")
            print(f"log: {member.logs / 'node.log'}\nCtrl-C ends it.", flush=True)
            member.wait(lambda words: print(words, flush=True), goes_on)
    except KeyboardInterrupt:
        pass
    print("ended", flush=True)
    return 0


def _named_by(key: Path) -> int:
    """Return the client whose key a file is, by its name."""
    number = key.name.removeprefix("client")
    fine = key.name.startswith("client") and number.isdigit()
    require(fine, "key", key.name, "a file called clientN, or --client N")
    return int(number)


def _member_here(chosen: argparse.Namespace):
    """Return the node of a client whose file is known here, and whether its network is still up."""
    network = machines.about(chosen.folder)
    token, files, client = network["token"], network["files"], chosen.client
    known = f"one of {list(range(len(files)))}, or --server and --reviews"
    require(client is not None and 0 <= client < len(files), "client", client, known)
    if client in machines.running(token) | machines.members(chosen.folder):
        raise NetworkError(f"client {client}: its node is running")
    certificate = key = None
    if network["secure"]:
        certificate = chosen.folder.resolve() / "keys" / "ca.crt"
        key = machines.registered_key(chosen.folder.resolve(), client)
    own = chosen.folder / "nodes" / f"client{client}"

    def goes_on() -> bool:
        try:
            return machines.about(chosen.folder)["token"] == token
        except NetworkError:
            return False

    return Member(client, files[client], network["server"], own, certificate, key), goes_on


def run(chosen: argparse.Namespace) -> int:
    """Hand a job to a network that is up, and print its rounds as they come."""
    make_strategy(chosen.strategy, dict(chosen.parameter), 1.0)  # or it is said what is wrong
    network = machines.about(chosen.folder)
    if chosen.port is not None and not network["server"].endswith(f":{chosen.port}"):
        came = f"{chosen.folder}: its network listens on {network['server']}"
        raise NetworkError(f"{came}, not on port {chosen.port}; another has another --folder")
    if chosen.resume is not None:
        usual = {**chosen.usual, "rounds": chosen.rounds, "resume": chosen.resume}
        usual |= {"folder": chosen.folder, "port": chosen.port, "command": run, "usual": None}
        odd = sorted(n for n, value in vars(chosen).items() if n in usual and value != usual[n])
        odd = [name for name in odd if name != "usual"]
        require(not odd, "resume", odd, "no other option: the run goes on as it began")
    results, told = None, 0
    try:
        if chosen.resume is None:
            results = _submit(chosen, network["nodes"])
        else:
            results = runs.resume(_last(chosen), chosen.rounds)
        print(f"results: {results}", flush=True)
        for record in runs.records(results):
            told = record.round
            print(_words(record), flush=True)
    except KeyboardInterrupt:
        return _interrupted(chosen.folder, results, told)
    except NetworkError as error:
        again = line(chosen.folder, "run --resume")
        raise NetworkError(f"{error}\nto go on with it: {again}" if told else error) from error
    for client, found in runs.metrics(results).items():
        own = ", ".join(f"{name} {found[name]:.3f}" for name in found if name != "examples")
        print(f"client {client}, on its own {found['examples']:.0f} examples: {own}")
    print(f"weights, records and metrics: {results}")
    return 0


def _submit(chosen: argparse.Namespace, nodes: int) -> Path:
    """Hand in the job that was asked for."""
    strategy, optimizer = chosen.strategy, chosen.optimizer
    if STRATEGIES[strategy].for_sgd and optimizer != "sgd":
        print(
            f"note: {strategy} is made for plain SGD on the clients; with {optimizer} it is a rule"
            " of thumb, and may learn nothing. --optimizer sgd is as it is meant.",
            flush=True,
        )
    test = chosen.test
    cohort = nodes if chosen.clients_per_round is None else chosen.clients_per_round
    rates = {"server_rate": None, **dict(chosen.parameter)}
    own = {"optimizer": optimizer, "lr": chosen.lr, "epochs": chosen.local_epochs}
    own |= {"clients": nodes, "cohort": cohort, "seed": chosen.seed}
    own |= {"rounds": 3 if chosen.rounds is None else chosen.rounds}
    own |= {"server_rate": rates.pop("server_rate"), **CODECS[chosen.codec]}
    recipe = Recipe(strategy, rates, **own)
    if chosen.task == "reviews":
        task = load_task()
        job = Job.of(recipe, task)
        if test is None:
            written = write_reviews(chosen.folder / "test", [task.test_reviews], task.classes)
            test = written[0]
    else:
        options = dict(recipe.parameters)
        if recipe.server_rate is not None:
            options["server_rate"] = recipe.server_rate
        job = Job((), recipe.plan(), strategy, options, chosen.codec, task=chosen.task)
    bits = chosen.secure_sum
    secure = SecureSum(bits, most_examples=chosen.most_examples) if bits else None
    more = {"transforms": tuple(chosen.privacy), "downlink": chosen.downlink}
    job = replace(job, secure=secure, **more)
    terms = {"wait": chosen.wait, "least": chosen.at_least, "test": test}
    return runs.submit(chosen.folder, job, chosen.timeout, **terms)


def _last(chosen: argparse.Namespace) -> Path:
    """Return the run to go on with: that of a number, or the last one."""
    if chosen.resume:
        return chosen.folder / f"results{chosen.resume}"
    known = list(runs.listed(chosen.folder))
    require(bool(known), "resume", str(chosen.folder), "a folder with a run")
    return known[-1]


def _words(record: RoundRecord) -> str:
    """Return a line about a round."""
    percent = ("accuracy", "recall@1", "recall@3")
    parts = [f"round {record.round}: loss {record.train_loss:.3f}"]
    for name, value in record.metrics.items():
        if name not in ("loss", "examples"):
            parts.append(f"{name} {100 * value:.1f}%" if name in percent else f"{name} {value:.3f}")
    parts += [f"{name} {value:.3g}" for name, value in record.told.items()]
    parts += [f"{record.bytes_up:,} bytes up, {record.bytes_down:,} down"]
    parts += [f"{record.seconds:.1f} s"]
    parts += [f"without client {client} ({why})" for client, why in record.left_out.items()]
    return " · ".join(parts)


def _interrupted(folder: Path, results: Path | None, told: int) -> int:
    """Stop the run of somebody who has pressed Ctrl-C, and say what became of it."""
    end = line(folder, "stop")
    if results is None:
        print(f"\ninterrupted; should a run have been handed in, this ends it: {end}")
        return 130
    print("\nstopping the run …", flush=True)
    try:
        for name, whose in runs.going_on(results.parent).items():
            if whose == results:
                runs.stop(results.parent, name)
    except (NetworkError, KeyboardInterrupt) as error:
        print(f"it may go on ({error}); to end it: {end}", file=sys.stderr)
        return 130
    print(f"stopped, after round {told}; to go on: {line(folder, 'run --resume')}")
    return 130


def stop(chosen: argparse.Namespace) -> int:
    """Stop the run that is going on."""
    machines.about(chosen.folder)
    going = runs.going_on(chosen.folder.resolve())
    for name, results in going.items():
        runs.stop(chosen.folder.resolve(), name)
        more = f"{results}; to go on: {line(chosen.folder, 'run --resume')}" if results else name
        print(f"stopped: {more}")
    if not going:
        print("no run is going on")
    return 0


def status(chosen: argparse.Namespace) -> int:
    """Print which nodes and runs there are."""
    network = machines.about(chosen.folder)
    print(f"SuperLink on {network['server']}, {machines.online(chosen.folder)} nodes are there")
    here = machines.running(network["token"]) | machines.members(chosen.folder)
    for client in range(network["nodes"]):
        if client >= len(network["files"]):
            print(f"client {client}: elsewhere")
        elif network["simulated"] or client in here:
            print(f"client {client}: " + ("virtual" if network["simulated"] else "its node runs"))
        else:
            again = line(chosen.folder, f"node --client {client}")
            print(f"client {client}: no node; start it: {again}")
    for results, state in runs.listed(chosen.folder).items():
        print(f"{results.name}: {runs.described(results)}, {state}")
    return 0


def number_of(text: str) -> tuple[str, float]:
    """Return the name and the number of "name=number"."""
    name, _, number = text.partition("=")
    return name, float(number)


def plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    add = parser.add_argument
    add("--resume", nargs="?", const=0, type=int, metavar="N", help="go on with a run, the last")
    add("--rounds", type=int, help="3; with --resume: of the whole run")
    add(
        "--strategy",
        choices=sorted(STRATEGIES),
        default="fedavg",
        metavar="NAME",
        help=", ".join(sorted(STRATEGIES)),
    )
    pair = {"type": number_of, "action": "append", "default": [], "metavar": "NAME=NUMBER"}
    add("--parameter", **pair, help="of the strategy, such as mu=0.01 or server_rate=1; repeat it")
    add("--optimizer", choices=sorted(LOCAL), default="adam", help="of the clients")
    add("--lr", type=float, help="of the clients; as tuned for the optimizer if left out")
    add("--local-epochs", type=int, default=1)
    add("--clients-per-round", type=int, help="all, if left out")
    add("--seed", type=int, default=0)
    add("--codec", choices=sorted(CODECS), default="touched_rows", help="of updates")
    add("--downlink", choices=sorted(CODECS), help="of the weights' changes; whole, if left out")
    add("--privacy", **pair, help="what nodes do to updates: clip=NORM, then noise=STD")
    add(
        "--secure-sum",
        type=int,
        choices=(8, 16, 32),
        help="bits; the server sees sums only; needs --codec dense",
    )
    add("--most-examples", type=float, default=10_000, help="of one node, for secure sums")
    add("--task", default="reviews", help="or module:name of a task of one's own")
    add("--test", type=Path, help="a file of examples to evaluate on; reviews have theirs")
    add("--timeout", type=float, help="seconds for an answer; found from the first ones if not")
    add("--wait", type=float, default=runs.WAIT, help="seconds for all nodes to come")
    add("--at-least", type=int, help="begin with so many nodes, where others do not come")
    add("--port", type=int, help="of the network that is meant; its folder says it, too")
    parser.set_defaults(usual=vars(parser.parse_args([])))
