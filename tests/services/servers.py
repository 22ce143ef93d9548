"""PostgreSQL, PgBouncer and Redis as child processes, on unix sockets in a folder of the test run.

Nothing listens on a port, so nothing can clash. A server ends with whoever started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

START_SECONDS = 60
STOP_SECONDS = 40


class MissingService(Exception):
    """A program that the tests run is not on this machine."""

    def __init__(self, service: str, package: str) -> None:
        super().__init__(
            f"{service} is not on this machine, and these tests run the real one. "
            f"Install Debian's package {package}, or run `make test`, which does."
        )


class ServerFailed(Exception):
    """A server did not start; the message ends with what it logged."""


def find_program(*names: str, service: str, package: str) -> str:
    """Return the path of the first of these programs that is here."""
    places = os.pathsep.join(
        [
            os.environ.get("PATH", os.defpath),
            "/usr/sbin",
            *(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]),
        ]
    )
    for name in names:
        if found := shutil.which(name, path=places):
            return found
    raise MissingService(service, package)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have this process get the signal when its parent ends, which only Linux can. For `preexec_fn`."""
    # A shell starts what it runs in the background with SIGINT ignored, and that is inherited: a test that
    # presses Ctrl-C would press it in vain.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        _libc.prctl(pr_set_pdeathsig, number)


# Loaded here: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None)


class Server(ABC):
    """One server process in a folder: started, stopped, killed and started again on the same data."""

    service: str
    stop_signal = signal.SIGTERM
    refuses_root = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server answers."""

    def prepare(self) -> None:  # noqa: B027 - not every server needs it
        """Write what the server needs before its first start."""

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            if self.user:
                shutil.chown(self.folder, self.user)
            self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.as_user()
            )
        try:
            self._wait_until_ready(self.process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server as an administrator would, and wait for its end."""
        if self.process is None:
            return
        self.resume()
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End the server and all its children with SIGKILL, as a power cut would."""
        if self.process is None:
            return
        self._signal_group(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def restart(self) -> None:
        """Stop the server and start it on the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: it accepts nothing, answers nothing and closes nothing."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal_group(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Return whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def user(self) -> str | None:
        """Return whom the server runs as, if not as the caller: PostgreSQL and PgBouncer refuse root."""
        if not self.refuses_root or os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres").pw_name
        except KeyError:
            return "nobody"

    def as_user(self) -> dict[str, Any]:
        """Return what `subprocess` needs to run a program of this server."""
        arguments: dict[str, Any] = {
            "start_new_session": True,
            "preexec_fn": lambda: die_with_parent(self.stop_signal),
            "cwd": self.folder,
        }
        if self.user:
            arguments |= {
                "user": self.user,
                "group": pwd.getpwnam(self.user).pw_gid,
                "extra_groups": [],
            }
        return arguments

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                logged = self.log.read_text(errors="replace")[-2000:]
                raise ServerFailed(f"{self.service} did not start:\n{logged}")
            time.sleep(0.02)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            # The server leads a session of its own, so its group is itself and its children.
            os.killpg(self.process.pid, number)


class PostgresServer(Server):
    """PostgreSQL, new and empty, superuser `backroom`, no password."""

    service = "PostgreSQL"
    package = "postgresql"
    refuses_root = True
    stop_signal = signal.SIGINT
    port = 5432

    def __init__(self, folder: Path, *, fsync: bool = True, options: dict[str, str] | None = None) -> None:
        super().__init__(folder)
        self.options = {"fsync": "on" if fsync else "off", "max_connections": "200"} | (options or {})
        found = find_program("postgres", service=self.service, package=self.package)
        # What stands on PATH may be a link; initdb and the others are where it leads.
        self._postgres = Path(found).resolve()
        self._databases = 0
        self.templates: dict[str, str] = {}
        """Migrated databases that nobody uses, by what was migrated: `create_database` copies them."""

    @property
    def host(self) -> str:
        """Return the folder of the socket, which is what libpq takes as a host."""
        return str(self.folder)

    def prepare(self) -> None:
        initdb = str(self._postgres.with_name("initdb"))
        self._program(
            *[initdb, "-D", str(self.folder / "data"), "-U", "backroom", "-A", "trust"],
            *["--no-sync", "-E", "UTF8", "--locale=C"],
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.host,
            "port": str(self.port),
        }
        chosen = [f"--{name}={value}" for name, value in (settings | self.options).items()]
        return [str(self._postgres), "-D", str(self.folder / "data"), *chosen]

    def kill(self) -> None:
        """End it with SIGKILL, and wait for its backends, which are in groups of their own and hold its memory."""
        # Here, for the benchmarks start servers too and have no psutil.
        import psutil

        backends = psutil.Process(self.process.pid).children(recursive=True) if self.process else []
        super().kill()
        psutil.wait_procs(backends, timeout=STOP_SECONDS)

    def is_ready(self) -> bool:
        pg_isready = str(self._postgres.with_name("pg_isready"))
        asked = [pg_isready, "-q", "-h", self.host, "-p", str(self.port), "-U", "backroom"]
        return subprocess.run(asked, check=False).returncode == 0

    def create_database(self, *, template: str | None = None) -> str:
        """Create a database, empty or as a copy of another that nobody is connected to, and return its name."""
        self._databases += 1
        name = f"backroom_{self._databases}"
        self.sql(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def keep_as_template(self, name: str, key: str) -> None:
        """Keep a copy of a database for `create_database`, if nobody is connected to it."""
        with contextlib.suppress(Exception):
            self.templates[key] = self.create_database(template=name)

    def drop_database(self, name: str) -> None:
        """Drop a database, and end every connection to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, statement: str, parameters: tuple[object, ...] = (), *, database: str = "postgres") -> Any:
        """Run one statement outside any transaction and return its rows, if it has any."""
        return run_sql(self.host, self.port, database, statement, parameters)

    def _program(self, *command: str) -> None:
        finished = subprocess.run(command, capture_output=True, check=False, **self.as_user())
        if finished.returncode != 0:
            raise ServerFailed(f"{command[0]} failed:\n{finished.stderr.decode(errors='replace')}")


class PgBouncer(Server):
    """PgBouncer in transaction pooling mode, in front of every database of one PostgreSQL server."""

    service = "PgBouncer"
    package = "pgbouncer"
    refuses_root = True
    stop_signal = signal.SIGTERM
    port = 6432

    def __init__(self, folder: Path, postgres: PostgresServer, *, pool_size: int = 20) -> None:
        super().__init__(folder)
        self.postgres = postgres
        self.pool_size = pool_size
        self._pgbouncer = find_program("pgbouncer", service=self.service, package=self.package)

    @property
    def host(self) -> str:
        """Return the folder of the socket, which is what libpq takes as a host."""
        return str(self.folder)

    def prepare(self) -> None:
        (self.folder / "users.txt").write_text('"backroom" ""\n')
        (self.folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={self.postgres.host} port={self.postgres.port}
[pgbouncer]
listen_addr =
listen_port = {self.port}
unix_socket_dir = {self.folder}
auth_type = trust
auth_file = {self.folder}/users.txt
admin_users = backroom
pool_mode = transaction
default_pool_size = {self.pool_size}
max_client_conn = 500
server_login_retry = 1
"""
        )

    def command(self) -> list[str]:
        return [self._pgbouncer, str(self.folder / "pgbouncer.ini")]

    def is_ready(self) -> bool:
        return answers(self.folder / f".s.PGSQL.{self.port}")

    def sql(self, statement: str, parameters: tuple[object, ...] = (), *, database: str = "postgres") -> Any:
        """Run one statement through the pool and return its rows, if it has any."""
        return run_sql(self.host, self.port, database, statement, parameters)


class RedisServer(Server):
    """Redis or Valkey, empty; it keeps nothing on disk unless `durable`."""

    service = "Redis"
    package = "redis-server"

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        super().__init__(folder)
        self.durable = durable
        self.socket = folder / "redis.sock"
        self._redis = find_program("redis-server", "valkey-server", service=self.service, package=self.package)

    @property
    def url(self) -> str:
        """Return the address in the form that `redis.from_url()` takes."""
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        append = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else []
        listen = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        return [self._redis, *listen, "--save", "", *append]

    def is_ready(self) -> bool:
        return answers(self.socket, say=b"PING\r\n", expect=b"+PONG")


class Epmd(Server):
    """Erlang's port mapper, which would stay behind for ever if RabbitMQ started it."""

    service = "epmd"
    package = "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._epmd = find_program("epmd", service=self.service, package=self.package)

    def command(self) -> list[str]:
        return [self._epmd, "-port", str(self.port), "-address", "127.0.0.1"]

    def is_ready(self) -> bool:
        return listens(self.port)


class RabbitServer(Server):
    """RabbitMQ with a node name, ports and folders of its own; the user is guest, and messages survive a restart."""

    service = "RabbitMQ"
    package = "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._distribution_port = free_port()
        # Debian's script on PATH is for root and changes to another user; the one behind it is RabbitMQ's own.
        self._rabbitmq = find_program("rabbitmq-server", service=self.service, package=self.package)
        self._epmd = Epmd(folder.with_name(f"{folder.name}-epmd"))

    @property
    def url(self) -> str:
        """Return the address in the form that Celery takes."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the server, and the port mapper that it needs."""
        if not self._epmd.is_running:
            self._epmd.start()
        super().start()

    def stop(self) -> None:
        """End both."""
        super().stop()
        self._epmd.stop()

    def kill(self) -> None:
        """End both with SIGKILL."""
        super().kill()
        self._epmd.kill()

    def prepare(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\nlog.console = true\n"
        )
        (self.folder / "plugins").write_text("[].\n")

    def command(self) -> list[str]:
        own = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        folder = str(self.folder)
        environment = {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._epmd.port),
            "RABBITMQ_NODENAME": f"backroom-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/no-such-file",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": "-",
            # In one process, without a shell round it that would have to be told to end as well.
            "RUNNING_UNDER_SYSTEMD": "true",
            # A node for a few tests: no more threads than it needs, and none that spin while idle.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        assigned = [f"{name}={value}" for name, value in environment.items()]
        return ["env", *assigned, str(own) if own.exists() else self._rabbitmq]

    def is_ready(self) -> bool:
        return listens(self.port) and b"Server startup complete" in self.log.read_bytes()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Return whether something accepts a connection on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(path: Path, *, say: bytes = b"", expect: bytes = b"") -> bool:
    """Return whether something accepts a connection on this socket and answers as expected."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            if not expect:
                return True
            connection.sendall(say)
            return connection.recv(64).startswith(expect)
        except OSError:
            return False


def run_sql(host: str, port: int, database: str, statement: str, parameters: tuple[object, ...]) -> Any:
    """Run one statement in autocommit mode and return its rows, if it has any."""
    import psycopg

    with psycopg.connect(
        host=host,
        port=port,
        dbname=database,
        user="backroom",
        autocommit=True,
        prepare_threshold=None,
    ) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []
