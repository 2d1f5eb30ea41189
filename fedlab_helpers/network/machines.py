"""A SuperLink and SuperNodes as processes on this machine: started, killed, and all ended."""

import ipaddress
import json
import socket
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from fedlab_helpers.core.require import require
from fedlab_helpers.network import flower
from fedlab_helpers.network.flower import LINK, NODES, NetworkError
from fedlab_helpers.network.processes import MARK, end_all, end_marked, family, guard, until

_SECTION = f"[superlink.{LINK}]"


class Network:
    """A SuperLink and a SuperNode for each file of reviews, all on this machine.

    A context manager: whatever happens inside, no process is left, even if this one is killed.
    Telemetry is off.

    Args:
        folder: of logs, keys, configuration and results; a network's own.
        files: CSV files, columns "text" and "label": what each node owns.
        secure: TLS, and only nodes with a registered key are let in.
        simulated: no SuperNodes, but as many virtual clients in Flower's simulation engine, which
            needs Ray.
        host: the IP address where the SuperLink listens.
        port: of the SuperLink; the nodes take the next ones.
        exposed: `host` may be another than a loopback address. Whoever reaches the port can hand
            in a run, that is, code, also where nodes have keys: have a firewall, or a tunnel.
    """

    def __init__(
        self,
        folder: str | Path,
        files: Sequence[str | Path],
        *,
        secure: bool = False,
        simulated: bool = False,
        host: str = "127.0.0.1",
        port: int = 8000,
        exposed: bool = False,
    ):
        expected = "a loopback address, or exposed=True: whoever reaches the port can run code here"
        require(exposed or ipaddress.ip_address(host).is_loopback, "host", host, expected)
        odd = [str(file) for file in files if '"' in str(file)]
        require(not odd, "files", odd, "no double quote in a path, which Flower does not take")
        self.folder, self.files = Path(folder).resolve(), [Path(file).resolve() for file in files]
        self.secure, self.simulated, self.host, self.port = secure, simulated, host, port
        self.logs, self.keys = self.folder / "logs", self.folder / "keys"
        self.processes: dict[str, subprocess.Popen] = {}
        self._token = uuid.uuid4().hex  # by which its processes are known
        self._guard: subprocess.Popen | None = None

    def __enter__(self) -> "Network":
        flower.require("flwr")
        self._require_free()
        self._guard = guard(self._token, self.folder / NODES)
        try:
            self._write()
            self._start_link()
            for client in range(0 if self.simulated else len(self.files)):
                self.start_node(client)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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
        own = f'client={client} reviews="{self.files[client]}"'
        way = ["--insecure", "--max-retries", "3"]
        if self.secure:
            way = ["--root-certificates", str(self.keys / "ca.crt")]
            way += ["--auth-supernode-private-key", str(key or self._registered_key(client))]
        there = ["--superlink", f"{self.host}:{self.port}"]
        here = ["--host", "127.0.0.1", "--port", str(port or self.port + 1 + client)]
        return self._spawn(name, ["flower-supernode", *way, *there, "--node-config", own, *here])

    def kill(self, client: int) -> None:
        """Kill a client's SuperNode and what it started, at once."""
        process = self.processes.pop(f"node{client}")
        end_all(family(process.pid))
        process.wait()

    def wait(self) -> None:
        """Wait until the SuperLink ends. Raises NetworkError when it does."""
        self.processes["superlink"].wait()
        raise NetworkError(f"the SuperLink ended: {self._tail()}")

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
            if self._guard:
                (self.folder / NODES).unlink(missing_ok=True)
                self._guard.communicate()  # closes its input
                self._guard = None

    def _require_free(self) -> None:
        """Raise NetworkError unless its folder and ports are nobody else's."""
        folder, config = self.folder, self.folder / "config.toml"
        if (folder / NODES).exists():
            raise NetworkError(f"{folder}: a network runs there; if none does, remove {NODES}")
        ours = _SECTION in config.read_text("utf-8") if config.exists() else not self.keys.exists()
        if not ours:
            raise NetworkError(f"{folder}: holds keys or a config.toml that no network wrote")
        nodes = 0 if self.simulated else len(self.files)
        for port, host in enumerate([self.host, *["127.0.0.1"] * nodes], self.port):
            if _listens(host, port):
                raise NetworkError(f"port {port} is in use; expected {self.port} and more free")

    def _write(self) -> None:
        """Write keys, Flower's configuration, and what `runs.submit` must know."""
        self.logs.mkdir(parents=True, exist_ok=True)
        way = "insecure = true"
        if self.secure:
            from fedlab_helpers.network.keys import make_certificates

            make_certificates(self.keys, self.host, again=True)
            way = f"root-certificates = {flower.toml(str(self.keys / 'ca.crt'))}"
        config = f'{_SECTION}\naddress = "{self.host}:{self.port}"\n{way}\n'
        (self.folder / "config.toml").write_text(config, "utf-8")
        files = list(map(str, self.files))
        nodes = {"nodes": len(files), "simulated": files if self.simulated else []}
        (self.folder / NODES).write_text(json.dumps(nodes), "utf-8")

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
            return process.poll() is not None or _listens(self.host, self.port)

        if not until(settled, 60) or process.poll() is not None:
            raise NetworkError(f"the SuperLink did not start on port {self.port}: {self._tail()}")

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(flower.PROGRAMS / command[0]), *command[1:]],
                env=flower.environment(self.folder) | {MARK: self._token},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def _registered_key(self, client: int) -> Path:
        """Return a new key for a client; the SuperLink is told that its owner may come in."""
        from fedlab_helpers.network.keys import make_key

        key = self.keys / f"client{client}"
        make_key(key, again=True)
        flower.call(self.folder, "supernode", "register", f"{key}.pub", LINK, "--name", key.name)
        return key

    def _tail(self) -> str:
        return (self.logs / "superlink.log").read_text("utf-8", "replace")[-1500:]


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
