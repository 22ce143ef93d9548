"""`rediss://` on a real server: who signed its certificate is asked for, and so is the name in it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backroom.redis import Address, RedisUnavailable, Script, server_in_loop, server_of
from tests.redis.conftest import Site
from tests.redis.servers import Sentinel, TcpRedis, free_port, running
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
    site = make_redis_site(url, direct_url=secret.server.url, poll=30.0)
    worker = site.worker("-v3")
    wait_until(lambda: "cmd=blpop" in str(secret.server.ask("CLIENT", "LIST")), what="the worker to listen")
    site.enqueue("effect", str(site.effects), 1)
    # Nobody looks by itself within the half minute.
    site.wait_for_states(seconds=20, successful=1)
    told = site.project.run("backroom", "doctor", check=False)
    checked = site.project.run("check", "--database", "default", check=False)
    worker.terminate()
    assert worker.wait(timeout=20) == 0
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
