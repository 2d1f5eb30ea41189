"""A SuperLink and SuperNodes as processes on this machine: started, killed, and all ended."""

import atexit
import contextlib
import ipaddress
import json
import socket
import ssl
import subprocess
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

from fedlab_helpers.network.flower import (
    LINK,
    NODES,
    PROGRAMS,
    NetworkError,
    environment,
    flower,
    require,
    toml,
)
from fedlab_helpers.network.processes import MARK, end_all, end_marked, family, guard, until


class Network:
    """A SuperLink and a SuperNode for each file of reviews, all on this machine.

    A context manager: whatever happens inside, no process is left, even if this one is killed.
    Telemetry is off.

    Args:
        folder: of logs, keys, configuration and results.
        files: CSV files, columns "text" and "label": what each node owns.
        secure: TLS, and only nodes with a registered key are let in.
        simulated: no SuperNodes, but as many virtual clients in Flower's simulation engine, which
            needs Ray.
        host: the IP address where the SuperLink listens.
        port: of the SuperLink; the nodes take the next ones.
        exposed: `host` may be another than a loopback address. Whoever reaches the port can hand
            in a run, that is, code, also where nodes have keys: have a firewall, or a tunnel.

    Raises:
        ValueError: the host is reached from elsewhere, or a path holds a double quote.
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
        if not (exposed or ipaddress.ip_address(host).is_loopback):
            raise ValueError(
                f"host: got {host}; whoever reaches the port can run code here: expected a "
                "loopback address such as 127.0.0.1, or exposed=True"
            )
        if odd := [str(file) for file in files if '"' in str(file)]:
            raise ValueError(f"files: got {odd}; Flower takes no double quote in a path")
        self.folder, self.files = Path(folder).resolve(), [Path(file).resolve() for file in files]
        self.secure, self.simulated, self.host, self.port = secure, simulated, host, port
        self.processes: dict[str, subprocess.Popen] = {}
        self._token = uuid.uuid4().hex  # by which its processes are known
        self._guard: subprocess.Popen | None = None
        self._entered = False

    def __enter__(self) -> "Network":
        require("flwr")
        self._prepare()
        atexit.register(self.stop)
        self._entered = True
        try:
            self._guard = guard(self._token, self.folder / NODES)
            self._start_link()
            for client in range(0 if self.simulated else len(self.files)):
                self.start_node(client)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def logs(self) -> Path:
        """Where each process writes what it has to say."""
        return self.folder / "logs"

    def start_node(
        self,
        client: int,
        key: Path | None = None,
        *,
        insecure: bool = False,
        name: str | None = None,
        port: int | None = None,
    ) -> subprocess.Popen:
        """Start the SuperNode of a client, for the first time or again.

        Args:
            client: which file it owns.
            key: its private key; None: a new one is made and registered, for the SuperLink turns
                away a key whose last owner it does not know to be dead.
            insecure: without certificate and key, whatever the network asks for.
            name: of the process and its log; None: "node" and the client's number.
            port: its own; None: the SuperLink's, plus one and the client's number.

        Raises:
            NetworkError: it runs already.
        """
        name = name or f"node{client}"
        if name in self.processes and self.processes[name].poll() is None:
            raise NetworkError(f"{name} runs already")
        if self.secure and not (insecure or key):
            self._register(client)
        own = f'client={client} reviews="{self.files[client]}"'
        way = ["--insecure", "--max-retries", "3"]
        if self.secure and not insecure:
            way = ["--root-certificates", str(self.folder / "keys" / "ca.crt")]
            way += ["--auth-supernode-private-key", str(key or self._key(client))]
        there = ["--superlink", f"{self.host}:{self.port}"]
        here = ["--host", "127.0.0.1", "--port", str(port or self.port + 1 + client)]
        command = ["flower-supernode", *way, *there, "--node-config", own, *here]
        return self._spawn(name, command)

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
                self._guard.communicate()  # closes its input
                self._guard = None
            if self._entered:
                self._entered = False
                (self.folder / NODES).unlink(missing_ok=True)
            atexit.unregister(self.stop)

    def _prepare(self) -> None:
        if (self.folder / NODES).exists():
            raise NetworkError(
                f"{self.folder / NODES} is there: a network runs in this folder; if it does not, "
                "remove the file"
            )
        nodes = [] if self.simulated else self.files
        for port, host in enumerate([self.host, *("127.0.0.1" for _ in nodes)], self.port):
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    raise NetworkError(f"port {port} is in use; expected {self.port} and more free")
        self.logs.mkdir(parents=True, exist_ok=True)
        way = "insecure = true"
        if self.secure:
            from fedlab_helpers.network.keys import make_certificates

            make_certificates(self.folder / "keys", self.host)
            way = f"root-certificates = {toml(str(self.folder / 'keys' / 'ca.crt'))}"
        (self.folder / "config.toml").write_text(
            f'[superlink.{LINK}]\naddress = "{self.host}:{self.port}"\n{way}\n', "utf-8"
        )
        files = list(map(str, self.files)) if self.simulated else []
        text = json.dumps({"nodes": len(self.files), "simulated": files})
        (self.folder / NODES).write_text(text, "utf-8")

    def _start_link(self) -> None:
        keys, way = self.folder / "keys", ["--insecure"]
        if self.secure:
            way = ["--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile"]
            way += [str(keys / "server.pem"), "--ssl-keyfile", str(keys / "server.key")]
            way += ["--enable-supernode-auth"]
        if self.simulated:
            require("ray")
            way += ["--simulation"]
        where = ["--host", self.host, "--port", str(self.port)]
        own = "--disable-runtime-dependency-installation"
        process = self._spawn("superlink", ["flower-superlink", *way, *where, own])
        context = ssl.create_default_context(cafile=keys / "ca.crt") if self.secure else None
        url = f"http{'s' if self.secure else ''}://{self.host}:{self.port}/health"
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

        def answers() -> bool:
            with contextlib.suppress(OSError):
                opener.open(url, timeout=1).close()
                return True
            return process.poll() is not None

        if not until(answers, 60) or process.poll() is not None:
            raise NetworkError(f"the SuperLink did not start on port {self.port}: {self._tail()}")

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(PROGRAMS / command[0]), *command[1:]],
                env=environment(self.folder) | {MARK: self._token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def _register(self, client: int) -> None:
        """Make a key for a client, and tell the SuperLink that its owner may come in."""
        from fedlab_helpers.network.keys import make_key

        make_key(self._key(client))
        public = f"{self._key(client)}.pub"
        flower(self.folder, "supernode", "register", public, LINK, "--name", f"client{client}")

    def _key(self, client: int) -> Path:
        return self.folder / "keys" / f"client{client}"

    def _tail(self) -> str:
        return (self.logs / "superlink.log").read_text("utf-8", "replace")[-1500:]
