"""TLS as a gateway serves it: which versions, renewed certificates, and certificates of devices."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from tests.support.authority import Authority, client
from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.streams import TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVER = "/CN=gateway", "IP:127.0.0.1"


class World:
    """A gateway with TLS, the authority of its own certificate and that of the devices'."""

    def __init__(self, directory: Path) -> None:
        self.root = Authority(directory, "root", for_servers=True)
        self.devices = Authority(directory, "devices")
        self.served = self.root.issue("served", *SERVER)
        self.files = {"certificate": str(self.served[0]), "key": str(self.served[1])}

    def dial(self, gateway: RunningGateway, device: str, certificate: tuple[Path, Path] | None, **more: Any) -> Any:
        context = client(self.root.path, certificate)
        return connect(f"{gateway.ws}/v1/devices/{device}/stream", ssl=context, compression=None, **more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def gateway(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    over = {"auth": {"mode": "token"}, "server": {"tls": {**world.files, "client_ca": str(world.devices.path)}}}
    with running_gateway(tmp_path_factory.mktemp("tls"), over) as running:
        for device in ("kiln-1", "kiln-2"):
            assert running.cli("devices", "add", device).returncode == 0
        yield running


def welcomed(world: World, gateway: RunningGateway, device: str, certificate: tuple[Path, Path]) -> bool:
    """Whether the certificate is taken for the device; it may have been registered a moment ago."""

    def tried() -> bool | None:
        try:
            with world.dial(gateway, device, certificate) as connection:
                return answer(connection)["type"] == "welcome"
        except InvalidStatus:
            return None

    return bool(wait_for(tried, f"{device} to be let in", 5))


@pytest.mark.parametrize(
    ("subject", "alternative"),
    [("/CN=kiln-1", ""), ("/CN=batch 7", "DNS:other,DNS:kiln-1"), ("/O=Works", "URI:kiln-1")],
)
def test_a_certificate_is_a_device_by_its_name(
    world: World, gateway: RunningGateway, subject: str, alternative: str
) -> None:
    own = world.devices.issue("own", subject, alternative)
    assert welcomed(world, gateway, "kiln-1", own)
    with world.dial(gateway, "kiln-1", own) as connection:
        answer(connection)
        connection.send('{"seq":1,"temp":1}')
        assert answer(connection) == {"type": "ack", "seq": 1}


def test_the_certificate_of_another_device_or_of_none_is_refused_like_a_wrong_token(
    world: World, gateway: RunningGateway
) -> None:
    assert welcomed(world, gateway, "kiln-1", world.devices.issue("first", "/CN=kiln-1"))
    for name, device in (("kiln-1", "kiln-2"), ("ghost", "ghost")):
        other = world.devices.issue("other", f"/CN={name}")
        with pytest.raises(InvalidStatus) as refused, world.dial(gateway, device, other):
            pass
        assert refused.value.response.status_code == 401
        assert b"not its token" in refused.value.response.body


@pytest.mark.parametrize("fault", ["expired", "unknown authority"])
def test_a_certificate_that_is_not_good_ends_the_handshake(
    world: World, gateway: RunningGateway, fault: str, tmp_path: Path
) -> None:
    authority = world.devices if fault == "expired" else Authority(tmp_path, "devices")
    bad = authority.issue("bad", "/CN=kiln-1", days=-1 if fault == "expired" else 30)
    with pytest.raises((ssl.SSLError, ConnectionResetError, ConnectionClosed, InvalidMessage)):
        world.dial(gateway, "kiln-1", bad).__enter__()


def test_a_token_needs_no_certificate_and_goes_before_one(world: World, gateway: RunningGateway) -> None:
    token = gateway.cli("devices", "rotate", "kiln-2").stdout.strip()
    header = {"Authorization": f"Bearer {token}"}

    def tried() -> bool | None:
        try:
            with world.dial(gateway, "kiln-2", None, additional_headers=header) as connection:
                return answer(connection)["type"] == "welcome"
        except InvalidStatus:
            return None

    assert wait_for(tried, "the new token to count")
    own = world.devices.issue("kiln-2", "/CN=kiln-2")
    wrong = {"Authorization": "Bearer wrong"}
    with pytest.raises(InvalidStatus), world.dial(gateway, "kiln-2", own, additional_headers=wrong):
        pass


def test_a_revoked_device_is_out_whatever_its_certificate_says(world: World, gateway: RunningGateway) -> None:
    own = world.devices.issue("kiln-3", "/CN=kiln-3")
    assert gateway.cli("devices", "add", "kiln-3").returncode == 0
    assert welcomed(world, gateway, "kiln-3", own)
    with world.dial(gateway, "kiln-3", own) as connection:
        answer(connection)
        assert gateway.cli("devices", "revoke", "kiln-3").returncode == 0
        with pytest.raises(ConnectionClosed, match="1008"):
            connection.recv(timeout=10)
    with pytest.raises(InvalidStatus), world.dial(gateway, "kiln-3", own):
        pass


def shaken(gateway: RunningGateway, context: ssl.SSLContext) -> tuple[str | None, Any, Any]:
    """Version, cipher and the gateway's certificate of one handshake."""
    address = urlsplit(gateway.url)
    with (
        socket.create_connection((address.hostname, address.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return secured.version(), secured.cipher(), secured.getpeercert()


def test_old_versions_and_ciphers_are_not_spoken(world: World, gateway: RunningGateway) -> None:
    newest = client(world.root.path)
    newest.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert shaken(gateway, newest)[0] == "TLSv1.3"
    older = client(world.root.path)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    version, cipher, _ = shaken(gateway, older)
    assert version == "TLSv1.2"
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
    older.set_ciphers("ECDHE-ECDSA-AES256-SHA384")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        shaken(gateway, older)
    ancient = client(world.root.path)
    ancient.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        ancient.minimum_version = ancient.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        shaken(gateway, ancient)


def test_a_renewed_certificate_is_served_after_a_reload_and_a_broken_one_is_not(
    world: World, gateway: RunningGateway
) -> None:
    own = world.devices.issue("steady", "/CN=kiln-1")
    assert welcomed(world, gateway, "kiln-1", own)
    with world.dial(gateway, "kiln-1", own) as connection:
        answer(connection)
        before = shaken(gateway, client(world.root.path))[2]["serialNumber"]
        for made, place in zip(world.root.issue("renewed", *SERVER), world.served, strict=True):
            shutil.copy(made, place)
        reload(gateway, "was read again")
        renewed = shaken(gateway, client(world.root.path))[2]["serialNumber"]
        assert renewed != before
        world.served[1].write_text("no key")
        reload(gateway, "cannot be used")
        assert shaken(gateway, client(world.root.path))[2]["serialNumber"] == renewed
        connection.send('{"seq":1,"temp":1}')
        assert answer(connection)["type"] == "ack"


def reload(gateway: RunningGateway, word: str) -> None:
    seen = len(gateway.log)
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: word in gateway.log[seen:], f"{word} in the log")


class SlowClient:
    """A device that encrypts by itself, so that it can send its records in pieces. It answers no pings."""

    def __init__(self, world: World, gateway: RunningGateway, device: str) -> None:
        address = urlsplit(gateway.url)
        self._line = socket.create_connection((address.hostname, address.port), timeout=20)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client(world.root.path, None)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=str(address.hostname))
        self._heard = b""
        self._until(self._tls.do_handshake)
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        request = f"GET /v1/devices/{device}/stream HTTP/1.1\r\nHost: {address.netloc}\r\n{upgrade}{'A' * 22}==\r\n\r\n"
        self._line.sendall(self.record(request.encode()))

    def record(self, data: bytes) -> bytes:
        """``data`` encrypted, at most 16 KiB."""
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self._line.sendall(data)

    def await_word(self, word: bytes) -> None:
        """Read until the gateway has said this."""
        while word not in self._heard:
            self._heard += self._until(lambda: self._tls.read(1 << 16))
        self._heard = b""

    def close(self) -> None:
        """Leave without a word."""
        self._line.close()

    def _until(self, done: Callable[[], Any]) -> Any:
        while True:
            try:
                return done()
            except ssl.SSLWantReadError:
                self._line.sendall(self._outgoing.read())
                received = self._line.recv(1 << 16)
                assert received, "the gateway has closed without a word"
                self._incoming.write(received)
            finally:
                self._line.sendall(self._outgoing.read())


def test_bytes_of_a_slow_record_are_life_but_not_for_ever(world: World, tmp_path: Path) -> None:
    keepalive = {"ping_interval": "500ms", "timeout": "1500ms", "message_timeout": "4s"}
    certificate, key = map(str, world.root.issue("slow", *SERVER))  # other tests renew and spoil the one that is served
    over = {"server": {"tls": {"certificate": certificate, "key": key}}, "keepalive": keepalive}
    with running_gateway(tmp_path, over) as gateway:
        slow = SlowClient(world, gateway, "slow")
        slow.await_word(b'"welcome"')
        record = slow.record(client_frame(TEXT, b'{"seq":1,"temp":1}'))
        for place in range(40):
            slow.send(record[place : place + 1])
            time.sleep(0.06)  # the pace of the device: more than the time-out for all of it
        slow.send(record[40:])
        slow.await_word(b'"ack"')
        record = slow.record(client_frame(TEXT, b" " * 16_000))
        started = time.monotonic()
        with contextlib.suppress(OSError):  # the gateway may be gone by the next piece
            while "closing 4408" not in gateway.log:
                assert time.monotonic() - started < 15, "a record without an end is life for ever"
                slow.send(record[:1])
                record = record[1:]
                time.sleep(0.06)
        slow.close()
        wait_for(lambda: "closing 4408" in gateway.log, "the device to be dropped")


def test_a_certificate_that_runs_out_is_told_until_a_renewed_one_is_in_force(world: World, tmp_path: Path) -> None:
    shutil.copy(world.root.issue("short", *SERVER, days=5)[0], tmp_path / "served.pem")
    key = world.root.path.with_name("short.key")
    files = {"certificate": str(tmp_path / "served.pem"), "key": str(key)}
    with running_gateway(tmp_path / "gateway", {"server": {"tls": files}}) as gateway:
        words = f"a certificate in {tmp_path}/served.pem ends at "

        def readiness() -> dict[str, Any]:
            with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=20, context=client(world.root.path)) as found:
                return dict(json.loads(found.read()))

        def told() -> int:
            return sum(words in line for line in gateway.log.splitlines())

        state = readiness()
        assert state["ready"]
        assert [warning.startswith(words) for warning in state["warnings"]] == [True]
        wait_for(told, "the log to tell it")
        renewed = world.root.issue("renewed", *SERVER)
        shutil.copy(renewed[0], tmp_path / "served.pem")
        assert readiness()["warnings"] == state["warnings"], "what is served is the certificate before"
        shutil.copy(renewed[1], key)
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not readiness()["warnings"], "the renewed certificate to be in force")
        assert told() == 1
        short = world.root.issue("short", *SERVER, days=2)
        shutil.copy(short[0], tmp_path / "served.pem")
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told() == 2, "the log to tell it after a reload, too")
