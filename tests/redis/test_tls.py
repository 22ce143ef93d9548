"""`rediss://` on a real server: who signed its certificate is asked for, and so is the name in it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backroom.redis import Address, RedisUnavailable, Script, server_in_loop, server_of
from backroom.tasks.stores.redis import RedisStore
from tests.redis.conftest import Site
from tests.redis.servers import Move, Sentinel, TcpRedis, cluster, free_port, running
from tests.redis.tls import Authority
from tests.services.project import wait_until

PASSWORD = "s3cret"


class Secret:
    """A server that listens on TLS and asks for a password, and what may be trusted or not."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ours, self.others = Authority(folder, "ours"), Authority(folder, "others")
        self.port = free_port()
        self.elsewhere = free_port()
        settings: Any = self.ours.settings(self.port)
        self.server = TcpRedis(folder / "redis", **settings)
        # Shows a certificate for another address than its own.
        settings = self.ours.settings(self.elsewhere, address="127.0.0.9")
        self.liar = TcpRedis(folder / "liar", **settings)

    def url(self, **options: str) -> str:
        port = options.pop("port", str(self.port))
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://clerk:{PASSWORD}@127.0.0.1:{port}/0?{query}"


@pytest.fixture(scope="module")
def secret(services_folder: Path) -> Iterator[Secret]:
    secret = Secret(services_folder / "tls")
    with running(secret.server, secret.liar):
        for server in (secret.server, secret.liar):
            server.ask("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield secret


def ask(url: str, how: str) -> Any:
    async def in_loop() -> Any:
        return await server_in_loop(Address(url=url)).call("PING")

    return asyncio.run(in_loop()) if how == "loop" else server_of(Address(url=url)).call("PING")


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_who_is_signed_by_whom_the_url_names_is_trusted(secret: Secret, how: str) -> None:
    assert ask(secret.url(ssl_ca_certs=secret.ours.file), how) == b"PONG"


@pytest.mark.parametrize("how", ["threads", "loop"])
@pytest.mark.parametrize("whom", ["others", "nobody", "liar"])
def test_anybody_else_is_refused_and_told_why(secret: Secret, how: str, whom: str) -> None:
    url, why = {
        "others": (secret.url(ssl_ca_certs=secret.others.file), "self-signed certificate in certificate chain"),
        "nobody": (secret.url(), "self-signed certificate in certificate chain"),
        "liar": (
            secret.url(ssl_ca_certs=secret.ours.file, port=str(secret.elsewhere)),
            "certificate is not valid for '127.0.0.1'",
        ),
    }[whom]
    with pytest.raises(RedisUnavailable, match=r"not trusted here: .*Name who signed it") as caught:
        ask(url, how)
    assert why in str(caught.value)
    errors: list[BaseException | None] = [caught.value]
    while (error := errors[-1]) is not None:
        assert PASSWORD not in f"{error!r} {vars(error)}"
        errors.append(error.__cause__ or error.__context__)


def test_a_loop_that_ends_leaves_no_connection_behind(secret: Secret) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(30):
            assert ask(secret.url(ssl_ca_certs=secret.ours.file), "loop") == b"PONG"
        gc.collect()
    assert [str(each.message) for each in told] == []


def test_a_connection_serves_for_long(secret: Secret) -> None:
    server = server_of(Address(url=secret.url(ssl_ca_certs=secret.ours.file)))
    server.call("PING")
    secret.server.ask("CONFIG", "RESETSTAT")
    # What TLS itself says after the handshake is no reason to take the connection for a broken one.
    assert [server.call("ECHO", str(number)) for number in range(20)][-1] == b"19"
    assert server.call_each([("ECHO", "x" * 100_000)] * 3) == [b"x" * 100_000] * 3
    assert Script("#!lua\nreturn KEYS[1]").run(server, ["{a}b"], []) == b"{a}b"
    # The one that counts them.
    assert int(secret.server.info("stats").partition("total_connections_received:")[2].split()[0]) <= 1


def test_a_worker_is_woken_and_says_no_password(
    secret: Secret, make_redis_site: Callable[..., Site], capfd: pytest.CaptureFixture[str]
) -> None:
    secret.server.ask("FLUSHALL")
    url = secret.url(ssl_ca_certs=secret.ours.file)
    site = make_redis_site(url, direct_url=secret.server.url, poll=600.0)
    worker = site.worker("-v3")
    wait_until(lambda: "cmd=blpop" in str(secret.server.ask("CLIENT", "LIST")), what="the worker to listen")
    site.enqueue("effect", str(site.effects), 1)
    # Nobody looks by itself within ten minutes.
    site.wait_for_states(successful=1)
    told = site.project.run("backroom", "doctor", check=False)
    checked = site.project.run("check", "--database", "default", check=False)
    worker.terminate()
    assert worker.wait(timeout=60) == 0
    assert "rediss://127.0.0.1" in told.stdout
    assert PASSWORD not in f"{told.stdout}{told.stderr}{checked.stdout}{checked.stderr}{worker.output()}"


class SecretSentinel(Sentinel):
    """A Sentinel that listens on TLS alone, and asks a server of which it knows the port for TLS."""

    def __init__(self, folder: Path, port: int, settings: dict[str, str]) -> None:
        self.tls = settings
        super().__init__(folder, TcpRedis(folder))
        self.primary.port = port

    def prepare(self) -> None:
        super().prepare()
        conf = self.folder / "sentinel.conf"
        lines = [f"{name.replace('_', '-')} {value}\n" for name, value in self.tls.items()]
        told = conf.read_text().replace(f"port {self.port}\n", "port 0\n", 1)
        user = f"sentinel auth-user tasks clerk\nsentinel auth-pass tasks {PASSWORD}\n"
        conf.write_text(f"{''.join(lines)}tls-replication yes\n{told}{user}")


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_sentinels_are_asked_over_tls_too(secret: Secret, own_folder: Path, how: str) -> None:
    own_folder.mkdir()
    port = free_port()
    watcher = SecretSentinel(own_folder / "sentinel", secret.port, secret.ours.settings(port))
    with running(watcher):
        address = Address(
            url=f"rediss://clerk:{PASSWORD}@tasks/0?ssl_ca_certs={secret.ours.file}", sentinels=(f"127.0.0.1:{port}",)
        )

        async def in_loop() -> Any:
            return await server_in_loop(address).call("PING")

        assert (asyncio.run(in_loop()) if how == "loop" else server_of(address).call("PING")) == b"PONG"


class SecretNode(TcpRedis):
    """A node of a cluster that speaks TLS alone, to clients and to its peers."""

    def __init__(self, folder: Path, *, authority: Authority, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.settings |= authority.settings(self.port) | {"tls_cluster": "yes", "tls_replication": "yes"}

    def command(self) -> list[str]:
        return [*super().command(), "--port", "0"]


@pytest.fixture(scope="module")
def secret_cluster(services_folder: Path) -> Iterator[tuple[str, list[TcpRedis]]]:
    """Give the URL of a cluster's first node and the nodes; what they show is signed by who is named in it."""
    folder = services_folder / "tls-cluster"
    authority = Authority(folder, "ours")
    with cluster(folder / "nodes", partial(SecretNode, authority=authority)) as nodes:
        for node in nodes:
            node.ask("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield f"rediss://clerk:{PASSWORD}@127.0.0.1:{nodes[0].port}/0?ssl_ca_certs={authority.file}", nodes


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_every_node_of_a_cluster_is_asked_over_tls(secret_cluster: tuple[str, list[TcpRedis]], how: str) -> None:
    url, nodes = secret_cluster
    address = Address(url=url, cluster=True)
    names = [f"{{{how}{number}}}" for number in range(30)]
    writes, reads = [("SET", name, "1") for name in names], [("GET", name) for name in names]

    async def in_loop() -> Any:
        server = server_in_loop(address)
        return [*(await server.call_each(writes)), *(await server.call_each(reads)), await server.call("GET", names[0])]

    def in_threads() -> Any:
        server = server_of(address)
        return [*server.call_each(writes), *server.call_each(reads), server.call("GET", names[0])]

    found = asyncio.run(in_loop()) if how == "loop" else in_threads()
    assert found == [b"OK"] * 30 + [b"1"] * 31
    assert all(int(node.ask("DBSIZE")) for node in nodes)


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_a_slot_that_has_moved_is_followed_over_tls(secret_cluster: tuple[str, list[TcpRedis]], how: str) -> None:
    url, nodes = secret_cluster
    address, name = Address(url=url, cluster=True), f"{{moves {how}}}"

    async def in_loop() -> Move:
        server = server_in_loop(address)
        assert await server.call("GET", name) is None
        (move := Move(nodes, name)).end()
        assert await server.call("SET", name, "1") == b"OK"
        return move

    def in_threads() -> Move:
        server = server_of(address)
        assert server.call("GET", name) is None
        (move := Move(nodes, name)).end()
        assert server.call("SET", name, "1") == b"OK"
        return move

    move = asyncio.run(in_loop()) if how == "loop" else in_threads()
    assert move.target.ask("GET", name) == "1"


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_a_cluster_whose_certificates_nobody_vouches_for_is_refused(
    secret_cluster: tuple[str, list[TcpRedis]], how: str
) -> None:
    address = Address(url=secret_cluster[0].partition("?")[0], cluster=True)

    async def in_loop() -> Any:
        return await server_in_loop(address).call("GET", "a")

    with pytest.raises(RedisUnavailable, match=r"not trusted here: .*Name who signed it") as caught:
        asyncio.run(in_loop()) if how == "loop" else server_of(address).call("GET", "a")
    assert PASSWORD not in str(caught.value)


def test_a_worker_on_a_cluster_is_woken_over_tls(
    secret_cluster: tuple[str, list[TcpRedis]], make_redis_site: Callable[..., Site]
) -> None:
    url, nodes = secret_cluster
    site = make_redis_site(url, cluster=True, shards=3, poll=600.0)
    site.store = RedisStore(server_of(Address(url=url, cluster=True)), "default", shards=3)
    worker = site.worker()
    wait_until(
        lambda: any("cmd=blpop" in str(node.ask("CLIENT", "LIST")) for node in nodes), what="the worker to listen"
    )
    site.enqueue("effect", str(site.effects), many=60)
    # Nobody looks by itself within the half minute.
    site.wait_for_states(successful=60)
    assert sum(1 for node in nodes if "{default." in str(node.ask("KEYS", "*"))) > 1
    worker.terminate()
    assert worker.wait(timeout=20) == 0
    assert PASSWORD not in worker.output()
