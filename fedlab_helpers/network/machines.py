"""A SuperLink and SuperNodes as processes on this machine: started, killed, and all ended."""

import contextlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from fedlab_helpers.core.messages import one_line
from fedlab_helpers.core.require import is_count, require
from fedlab_helpers.network import flower
from fedlab_helpers.network.flower import LINK, NODES, NetworkError
from fedlab_helpers.network.kept import digest
from fedlab_helpers.network.processes import (
    MARK,
    claim,
    end_all,
    end_marked,
    family,
    guard,
    marked,
    owner,
    release,
    until,
)

_SECTION = f"[superlink.{LINK}]"
_ENDED = re.compile(r"Exit Code: \d+\n(.+?)\n\n", re.DOTALL)
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REFUSED = "[code: 2004]"  # Flower's word for a key whose last owner may still be there
_GIVEN_UP = "handshake operation timed out"  # the last words of a SuperNode that hangs
AGAIN = 5.0  # seconds between two tries to come in
DEAF = 30.0  # seconds after which a program of Flower's is not waited for to recover


class Programs:
    """Processes that are started together, and all ended: whatever happens to this one.

    Args:
        folder: of what they keep, and of a mark that says by whom it is used.
        mark: what that is called.
    """

    def __init__(self, folder: str | Path, mark: str):
        self.folder = Path(folder).resolve()
        self.logs, self.mark = self.folder / "logs", self.folder / mark
        self.processes: dict[str, subprocess.Popen] = {}
        self._token = uuid.uuid4().hex  # by which its processes are known
        self._guard: subprocess.Popen | None = None

    def __enter__(self):
        flower.require("flwr")
        self.check()
        claim(self.mark)
        try:
            self._guard = guard(self._token, self.mark)
            self.logs.mkdir(parents=True, exist_ok=True)
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise NetworkError where something else is in the way; nothing is written before."""
        if other := owner(self.mark):
            raise NetworkError(
                f"{self.folder}: is used by process {other}, as {self.mark.name} says"
            )

    def start(self) -> None:
        """Start what belongs together."""
        raise NotImplementedError

    def stop(self) -> None:
        """End all processes, gently first."""
        ours = list(self.processes.values())
        every = [child for each in ours if each.poll() is None for child in family(each.pid)]
        try:
            for process in ours:
                process.terminate()
            until(lambda: all(each.poll() is not None for each in ours), 8)
        finally:  # also where somebody loses patience
            for process in ours:
                process.kill()
                process.wait()
            # Flower's server app, and Ray's daemons, outlive what started them.
            end_all(every)
            end_marked(self._token)
            self.processes.clear()
            release(self.mark, os.getpid())
            if self._guard:
                self._guard.communicate()  # closes its input
                self._guard = None

    def find(self, words: str) -> list[psutil.Process]:
        """Return its processes, and theirs, whose command line holds these words."""
        found = []
        for process in marked(self._token):
            with contextlib.suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(flower.PROGRAMS / command[0]), *command[1:]],
                env=flower.environment(self.folder) | {MARK: self._token},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def deaf(self, name: str) -> bool:
        """Return whether a program of Flower's runs, and will start nothing any more.

        Where a SuperLink stands still for half a minute, secured nodes give it up and do not end.
        Where any of them does, the SuperExec beside it ends, and is not started again.
        """
        process = self.processes.get(name)
        if process is None or process.poll() is not None:
            return False
        with contextlib.suppress(psutil.Error):
            program = psutil.Process(process.pid)
            begun = time.time() - program.create_time() > DEAF
            if begun and not any(map(_executes, program.children())):
                return True
        silent = time.time() - (self.logs / f"{name}.log").stat().st_mtime > DEAF
        return silent and _GIVEN_UP in self._tail(name).rstrip().rpartition("\n")[2]

    def _tail(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text("utf-8", "replace")[-1500:]


class Network(Programs):
    """A SuperLink, and a SuperNode for each file of examples, all on this machine.

    A context manager: whatever happens inside, no process is left, even if this one is killed.
    Telemetry is off.

    Args:
        folder: of logs, keys, configuration, results, and what clients keep; a network's own.
        files: what each node owns; CSV files, columns "text" and "label", or as a job's task reads.
        secure: TLS, and only nodes with a registered key are let in; whoever reaches the port can
            register one.
        simulated: no SuperNodes, but as many virtual clients in Flower's simulation engine, which
            needs Ray.
        elsewhere: how many clients more there are, whose nodes are started on other machines. With
            `secure`, the public halves of their keys, keys/clientN.pub, are registered; where there
            is none, a key is made here, and stays the same when the network is started again.
        host: the IP address where the SuperLink listens.
        port: of the SuperLink; the nodes take the next ones.
        exposed: `host` may be another than a loopback address. Whoever reaches the port can hand
            in a run, that is, code, also where nodes have keys: have a firewall, or a tunnel.
        write: called once folder and ports are known to be nobody else's, to write the files.

    Raises:
        ValueError: host, port or a path is not acceptable.
        NetworkError: on entering: the folder or a port is in use, or the SuperLink did not start.
    """

    def __init__(
        self,
        folder: str | Path,
        files: Sequence[str | Path],
        *,
        secure: bool = False,
        simulated: bool = False,
        elsewhere: int = 0,
        host: str = "127.0.0.1",
        port: int = 8000,
        exposed: bool = False,
        write: Callable[[], object] | None = None,
    ):
        super().__init__(folder, NODES)
        expected = "a loopback address, or exposed=True: whoever reaches the port can run code here"
        require(exposed or ipaddress.ip_address(host).is_loopback, "host", host, expected)
        address = ipaddress.ip_address(host)
        fine = address.version == 4 and not (secure and address.is_unspecified)
        require(fine, "host", host, "an IPv4 address, with `secure` the one that nodes use")
        fine = elsewhere == 0 or is_count(elsewhere)
        require(fine, "elsewhere", elsewhere, "an integer of at least 0")
        last = 65535 - len(files)
        expected = f"an integer from 1 to {last}: the nodes take the next ones"
        require(is_count(port) and port <= last, "port", port, expected)
        self.files = [Path(file).resolve() for file in files]
        for path in (self.folder, *self.files):
            _require_path(path)
        self.secure, self.simulated, self.host, self.port = secure, simulated, host, port
        self.elsewhere, self.write, self.keys = elsewhere, write, self.folder / "keys"

    def check(self) -> None:
        """Raise NetworkError unless its folder and ports are nobody else's."""
        super().check()
        folder, config = self.folder, self.folder / "config.toml"
        keys = [path for path in self.keys.glob("*") if not path.match("client*.pub")]
        ours = _SECTION in config.read_text("utf-8") if config.exists() else not keys
        if not ours:
            raise NetworkError(f"{folder}: holds keys or a config.toml that no network wrote")
        nodes = 0 if self.simulated else len(self.files)
        for port, host in enumerate([self.host, *["127.0.0.1"] * nodes], self.port):
            if listens(host, port):
                raise NetworkError(f"port {port} is in use; expected {self.port} and more free")

    def start(self) -> None:
        """Start the SuperLink, then the nodes."""
        if self.write:
            self.write()
        self._write()
        self._start_link()
        here = len(self.files)
        for client in range(0 if self.simulated else here):
            self.start_node(client)
        for client in range(here, here + self.elsewhere if self.secure else here):
            registered_key(self.folder, client, again=False)

    def start_node(
        self, client: int, key: Path | None = None, name: str | None = None, port: int | None = None
    ) -> subprocess.Popen:
        """Start the SuperNode of a client, anew where it has ended; else raise NetworkError.

        Args:
            client: which file it owns.
            key: its private key; None: a new one is made and registered, for the SuperLink turns
                away a key whose last owner it does not know to be dead.
            name: of the process and its log; None: "node" and the client's number.
            port: its own; None: the SuperLink's, plus one and the client's number.
        """
        name = name or f"node{client}"
        if name in self.processes and self.processes[name].poll() is None:
            raise NetworkError(f"{name} runs already")
        if self.secure:
            key = key or registered_key(self.folder, client)
        own = self.folder / "nodes" / f"client{client}"
        server = f"{self.host}:{self.port}"
        certificate = self.keys / "ca.crt" if self.secure else None
        where = (server, certificate, key, port or self.port + 1 + client)
        return self._spawn(name, supernode(client, self.files[client], own, *where))

    def kill(self, client: int) -> None:
        """Kill a client's SuperNode and what it started, at once."""
        process = self.processes.pop(f"node{client}")
        end_all(family(process.pid))
        process.wait()

    def revive(self) -> list[int]:
        """Start again what is `deaf`; return the clients whose nodes these were. Raises
        NetworkError: the SuperLink takes no key; that client's node has ended then."""
        link, executor = self.processes["superlink"], self.processes.get("superexec")
        with contextlib.suppress(psutil.Error):
            if psutil.Process(link.pid).status() == psutil.STATUS_STOPPED:
                return []
        if self.deaf("superlink") and (executor is None or executor.poll() is not None):
            way = ["--root-certificates", str(self.keys / "ca.crt")] if self.secure else []
            where = ["--runtime-api-address", f"{self.host}:{self.port}"]
            own = ["--parent-pid", str(link.pid)]
            self._spawn("superexec", ["flower-superexec", *(way or ["--insecure"]), *where, *own])
        deaf = [client for client in range(len(self.files)) if self.deaf(f"node{client}")]
        for client in deaf:
            process = self.processes[f"node{client}"]
            end_all(family(process.pid))
            process.wait()
            self.start_node(client)
        return deaf

    def wait(self, tell: Callable[[int, int | None], object] = lambda client, code: None) -> None:
        """Wait until the SuperLink ends; each client whose node ends before is told, and the exit
        status of that, or None where it was deaf, and is started again. Raises NetworkError when
        the SuperLink ends."""
        told: set[subprocess.Popen] = set()
        link = self.processes["superlink"]

        def over() -> bool:
            for client in range(len(self.files)):
                node = self.processes.get(f"node{client}")
                if node and node.poll() is not None and node not in told:
                    told.add(node)
                    tell(client, node.returncode)
            return link.poll() is not None

        while not until(over, AGAIN, 0.3):
            with contextlib.suppress(NetworkError):  # a SuperLink that is stopped takes no key
                for client in self.revive():
                    tell(client, None)
        how = f"with status {link.returncode}" if link.returncode >= 0 else "killed"
        raise NetworkError(f"the SuperLink ended, {how}; its log: {self.logs / 'superlink.log'}")

    def _write(self) -> None:
        """Write keys, Flower's configuration, and what commands must know of this network."""
        way = "insecure = true"
        if self.secure:
            from fedlab_helpers.network.keys import are_valid, make_certificates

            if not are_valid(self.keys, self.host):
                make_certificates(self.keys, self.host, again=True)
            way = f"root-certificates = {flower.toml(str(self.keys / 'ca.crt'))}"
        config = f'{_SECTION}\naddress = "{self.host}:{self.port}"\n{way}\n'
        (self.folder / "config.toml").write_text(config, "utf-8")
        files = list(map(str, self.files))
        about = {
            "nodes": len(files) + self.elsewhere,
            "simulated": files if self.simulated else [],
            "files": files,
            "server": f"{self.host}:{self.port}",
            "secure": self.secure,
            "token": self._token,
        }
        claim(self.mark, about, again=True)

    def _start_link(self) -> None:
        way = ["--insecure"]
        if self.secure:
            shown = {"ca-certfile": "ca.crt", "certfile": "server.pem", "keyfile": "server.key"}
            way = ["--enable-supernode-auth"]
            for option, name in shown.items():
                way += [f"--ssl-{option}", str(self.keys / name)]
        if self.simulated:
            flower.require("ray")
            way += ["--simulation"]
        where = ["--host", self.host, "--port", str(self.port)]
        own = "--disable-runtime-dependency-installation"
        process = self._spawn("superlink", ["flower-superlink", *way, *where, own])

        def settled() -> bool:
            return process.poll() is not None or listens(self.host, self.port)

        if not until(settled, 120) or process.poll() is not None:
            said = self._tail("superlink")
            raise NetworkError(f"the SuperLink did not start on port {self.port}: {said}")


class Member(Programs):
    """One SuperNode on this machine, of a network here or elsewhere.

    Args:
        client: which client of the network it stands for.
        reviews: the file of its examples.
        server: "HOST:PORT" of the SuperLink.
        folder: of its log, and of what its client keeps; its own.
        certificate: of the authority that vouches for the server; None: the way is not secured.
        key: its private key, registered there; None: nodes have none.
    """

    def __init__(
        self,
        client: int,
        reviews: str | Path,
        server: str,
        folder: str | Path,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
    ):
        super().__init__(folder, "node.json")
        host, _, port = server.rpartition(":")
        fine = host and port.isdigit() and 0 < int(port) <= 65535
        require(fine, "server", server, "HOST:PORT")
        fine = client == 0 or is_count(client)
        require(fine, "client", client, "an integer of at least 0")
        both = (certificate is None) == (key is None)
        require(both, "certificate, key", (certificate, key), "both, or none of them")
        for path in (reviews, certificate, key):
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"{path}: there is no such file")
            _require_path(Path(path or "."))
        _require_path(self.folder)
        self.client, self.server = client, server
        self.reviews, self.certificate, self.key = reviews, certificate, key

    def start(self) -> None:
        """Start the SuperNode."""
        with socket.socket() as probe:  # its apps ask it at a port of its own
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        where = (self.server, self.certificate, self.key, port)
        self._spawn("node", supernode(self.client, Path(self.reviews), self.folder, *where))

    def wait(self, tell: Callable[[str], object], goes_on: Callable[[], bool]) -> None:
        """Wait, and start the SuperNode again where it ends, as long as it `goes_on`; what happens
        is told in words."""
        at = 0

        def over() -> bool:
            return not goes_on() or self.processes["node"].poll() is not None

        while True:
            while not until(over, AGAIN):
                if self.deaf("node"):
                    end_all(family(self.processes["node"].pid))
                    self.processes["node"].wait()
            if not goes_on():
                return
            said = (self.logs / "node.log").read_text("utf-8", "replace")[at:]
            at += len(said)
            if "CERTIFICATE_VERIFY_FAILED" in said:
                raise NetworkError(f"{self.server}: shows another certificate than was given")
            why = _why(said)
            tell(f"the node ended: {why}; again in {AGAIN:.0f} s (log: {self.logs / 'node.log'})")
            if not until(lambda: not goes_on(), AGAIN):
                self.start()


def _executes(process: psutil.Process) -> bool:
    """Return whether a process is a SuperExec that is not dead."""
    with contextlib.suppress(psutil.Error):
        return "flower-superexec" in " ".join(process.cmdline())
    return False


def _why(said: str) -> str:
    """Return why a SuperNode ended, from what it wrote."""
    if _REFUSED in said:
        return "the SuperLink knows no such key, or takes its last owner to be still there"
    ends = _ENDED.findall(_COLOR.sub("", said))
    if not ends:
        return "it said no reason"
    first, *others = ends[-1].strip().splitlines()
    return one_line(f"{first} {others[0]}" if first.startswith("Failed") and others else first)


def supernode(
    client: int,
    reviews: Path,
    folder: Path,
    server: str,
    certificate: str | Path | None,
    key: str | Path | None,
    port: int,
) -> list[str]:
    """Return the command that starts a client's SuperNode; arguments as of `Member`, and a free
    port for its own apps."""
    own = f'client={client} reviews="{reviews.resolve()}" sha256="{digest(reviews)}"'
    own += f' kept="{folder / "kept"}"'
    way = ["--insecure"] if certificate is None else ["--root-certificates", str(certificate)]
    way += [] if key is None else ["--auth-supernode-private-key", str(key)]
    way += ["--max-retries", "3"]
    here = ["--host", "127.0.0.1", "--port", str(port)]
    return ["flower-supernode", *way, "--superlink", server, "--node-config", own, *here]


def registered_key(folder: Path, client: int, again: bool = True) -> Path:
    """Return a key for a client of a network that is up, a new one where `again` says so or there
    is none; the SuperLink is told that its owner may come in."""
    from fedlab_helpers.network.keys import make_key

    key = folder / "keys" / f"client{client}"
    public = key.with_name(f"{key.name}.pub")  # alone, where the key was made elsewhere
    if again or not public.exists():
        make_key(key, again=True)
    flower.call(folder, "supernode", "register", str(public), LINK, "--name", key.name)
    return key


def about(folder: str | Path) -> dict:
    """Return what a network that is up wrote of itself. Raises NetworkError: none is."""
    mark = Path(folder) / NODES
    try:
        found = json.loads(mark.read_text("utf-8"))
    except FileNotFoundError:
        raise NetworkError(f"{folder}: no network is up there; start one with `up`") from None
    if "nodes" not in found:
        raise NetworkError(f"{folder}: a network is just being started there")
    return found


def running(token: str) -> set[int]:
    """Return the clients whose SuperNodes were started with this mark, and run."""
    found = set()
    for process in marked(token):
        with contextlib.suppress(psutil.Error):
            found |= {
                int(n) for n in re.findall(r"\bclient=(\d+) reviews=", " ".join(process.cmdline()))
            }
    return found


def members(folder: str | Path) -> set[int]:
    """Return the clients of a network here whose nodes were started again, apart from it."""
    marks = Path(folder).glob("nodes/client*/node.json")
    return {int(mark.parent.name.removeprefix("client")) for mark in marks if owner(mark)}


def online(folder: str | Path) -> int:
    """Return how many nodes the SuperLink of a network takes to be there."""
    found = json.loads(flower.call(Path(folder).resolve(), "supernode", "list", LINK))
    return sum(node["status"] == "online" for node in found["nodes"])


def listens(host: str, port: int) -> bool:
    """Return whether somebody listens at an address of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _require_path(path: Path) -> None:
    require('"' not in str(path), "files", str(path), "no double quote, which Flower does not take")
