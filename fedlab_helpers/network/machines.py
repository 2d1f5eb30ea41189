"""A SuperLink and SuperNodes as processes on this machine: started, killed, and all ended."""

import atexit
import contextlib
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import psutil

from fedlab_helpers.network.flower import (
    HOME,
    LINK,
    NODES,
    PROGRAMS,
    NetworkError,
    environment,
    flower,
    require_flower,
    require_ray,
)


class Network:
    """A SuperLink and a SuperNode for each file of reviews, all on this machine.

    A context manager: whatever happens inside, no process is left. Telemetry is off.

    Args:
        folder: of logs, keys, configuration and results.
        files: CSV files, columns "text" and "label": what each node owns.
        secure: TLS, and only nodes with a registered key are let in.
        simulated: no SuperNodes, but as many virtual clients in Flower's simulation engine, which
            needs Ray.
        host: where the SuperLink listens; the default is reached from this machine only.
        port: of the SuperLink; the nodes take the next ones.
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
    ):
        self.folder, self.files = Path(folder).resolve(), [Path(file).resolve() for file in files]
        self.secure, self.simulated, self.host, self.port = secure, simulated, host, port
        self.processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Network":
        require_flower()
        atexit.register(self.stop)
        try:
            self._prepare()
            self._start_link()
            for client in range(0 if self.simulated else len(self.files)):
                if self.secure:
                    self.register(client)
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
            key: its private key; None: the one that was registered for it.
            insecure: without certificate and key, whatever the network asks for.
            name: of the process and its log; None: "node" and the client's number.
            port: its own; None: the SuperLink's, plus one and the client's number.
        """
        own = f"client={client} reviews={json.dumps(str(self.files[client]))}"
        way = ["--insecure", "--max-retries", "3"]
        if self.secure and not insecure:
            way = ["--root-certificates", str(self.folder / "keys" / "ca.crt")]
            way += ["--auth-supernode-private-key", str(key or self._key(client))]
        there = ["--superlink", f"{self.host}:{self.port}"]
        here = ["--host", "127.0.0.1", "--port", str(port or self.port + 1 + client)]
        command = ["flower-supernode", *way, *there, "--node-config", own, *here]
        return self._spawn(name or f"node{client}", command)

    def kill(self, client: int) -> None:
        """Kill a client's SuperNode and what it started, at once."""
        process = self.processes.pop(f"node{client}")
        end_all(family(process.pid))
        process.wait()

    def register(self, client: int) -> None:
        """Make a key for a client, and tell the SuperLink that its owner may come in."""
        from fedlab_helpers.network.keys import make_key

        make_key(self._key(client))
        public = str(self._key(client).with_suffix(".pub"))
        flower(self.folder, "supernode", "register", public, LINK, "--name", f"client{client}")

    def wait(self) -> None:
        """Wait until the SuperLink ends. Raises NetworkError when it does."""
        self.processes["superlink"].wait()
        raise NetworkError(f"the SuperLink ended: {self._tail()}")

    def stop(self) -> None:
        """End all processes, gently first."""
        atexit.unregister(self.stop)
        every = [child for each in self.processes.values() for child in family(each.pid)]
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + 8
        while time.monotonic() < end and any(p.poll() is None for p in self.processes.values()):
            time.sleep(0.1)
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()
        # Flower's server app, and Ray's daemons, outlive what started them.
        end_all([*every, *of_folder(self.folder)])

    def _prepare(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        way = "insecure = true"
        if self.secure:
            from fedlab_helpers.network.keys import make_certificates

            make_certificates(self.folder / "keys", self.host)
            way = f"root-certificates = {json.dumps(str(self.folder / 'keys' / 'ca.crt'))}"
        (self.folder / "config.toml").write_text(
            f'[superlink.{LINK}]\naddress = "{self.host}:{self.port}"\n{way}\n', "utf-8"
        )
        files = list(map(str, self.files)) if self.simulated else []
        nodes = json.dumps({"nodes": len(self.files), "simulated": files})
        (self.folder / NODES).write_text(nodes, "utf-8")

    def _start_link(self) -> None:
        keys, way = self.folder / "keys", ["--insecure"]
        if self.secure:
            way = ["--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile"]
            way += [str(keys / "server.pem"), "--ssl-keyfile", str(keys / "server.key")]
            way += ["--enable-supernode-auth"]
        if self.simulated:
            require_ray()
            way += ["--simulation"]
        where = ["--host", self.host, "--port", str(self.port)]
        own = "--disable-runtime-dependency-installation"
        process = self._spawn("superlink", ["flower-superlink", *way, *where, own])
        context = ssl.create_default_context(cafile=keys / "ca.crt") if self.secure else None
        url = f"http{'s' if self.secure else ''}://{self.host}:{self.port}/health"
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(url, timeout=1, context=context).close()
                return
            time.sleep(0.1)
        raise NetworkError(f"the SuperLink did not start on port {self.port}: {self._tail()}")

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(PROGRAMS / command[0]), *command[1:]],
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def _key(self, client: int) -> Path:
        return self.folder / "keys" / f"client{client}"

    def _tail(self) -> str:
        return (self.logs / "superlink.log").read_text("utf-8", "replace")[-1500:]


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started, directly or not; none where it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(processes: Sequence[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def of_folder(folder: Path) -> list[psutil.Process]:
    """Return the processes that belong to the network of a folder, whoever started them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(HOME) == str(folder):
                found.append(process)
    return found
