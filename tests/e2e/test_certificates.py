"""An authority for each profile: openssl's certificates, shown to a real gateway in full and resumed handshakes."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.authority import Authority, client
from tests.support.device import answer
from tests.support.gateway import RunningGateway, config_for, running_gateway, wait_for
from tests.support.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Pair = tuple["Path", "Path"]
REFUSED = {401, 429}
"""The second for who has been refused a few times."""


class World:
    """Two profiles with authorities of one and the same name, and one authority for all others."""

    def __init__(self, directory: Path) -> None:
        for name in ("root", "kilns", "ovens", "others"):
            (directory / name).mkdir()
        self.root = Authority(directory / "root", "root", for_servers=True)
        self.kilns = Authority(directory / "kilns", "works")
        self.ovens = Authority(directory / "ovens", "works")
        self.others = Authority(directory / "others", "others")
        self.served = self.root.issue("served", "/CN=gateway", "IP:127.0.0.1")
        self.listed = directory / "kilns.pem"
        shutil.copy(self.kilns.path, self.listed)

    def config(self) -> dict[str, object]:
        tls = dict(zip(("certificate", "key"), map(str, self.served), strict=True))
        return {
            "auth": {"mode": "token"},
            "server": {"tls": {**tls, "client_ca": str(self.others.path)}},
            "profiles": {
                "kiln": {"client_ca": str(self.listed)},
                "oven": {"client_ca": str(self.ovens.path)},
                "plain": {},
            },
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def gateway(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), world.config()) as running:
        for device in ("kiln", "oven", "plain"):
            assert running.cli("devices", "add", f"{device}-1", "--profile", device).returncode == 0
        own = world.others.issue("first", "/CN=plain-1")
        wait_for(lambda: let_in(world, running, "plain-1", own), "the devices to be known")
        yield running


def let_in(world: World, gateway: RunningGateway, device: str, certificate: Pair) -> bool:
    url = f"{gateway.ws}/v1/devices/{device}/stream"
    try:
        with connect(url, ssl=client(world.root.path, certificate), compression=None) as connection:
            return answer(connection)["type"] == "welcome"
    except InvalidStatus as refused:
        if refused.response.status_code not in REFUSED:
            raise
        return False
    except (InvalidMessage, ConnectionClosed, ssl.SSLError, ConnectionResetError):  # no authority that is known
        return False


@pytest.mark.parametrize(
    ("issuer", "device", "good"),
    [
        ("kilns", "kiln-1", True),
        ("kilns", "oven-1", False),
        ("kilns", "plain-1", False),
        ("ovens", "oven-1", True),
        ("ovens", "kiln-1", False),
        ("others", "plain-1", True),
        ("others", "kiln-1", False),
    ],
)
def test_an_authority_speaks_for_its_own_profile_only(
    world: World, gateway: RunningGateway, issuer: str, device: str, good: bool
) -> None:
    authority: Authority = getattr(world, issuer)
    assert let_in(world, gateway, device, authority.issue("own", f"/CN={device}")) is good


def test_a_device_that_is_not_registered_is_not_let_in_by_its_profiles_authority(
    world: World, gateway: RunningGateway
) -> None:
    assert not let_in(world, gateway, "kiln-2", world.kilns.issue("second", "/CN=kiln-2"))


def test_a_revoked_device_is_out(world: World, gateway: RunningGateway) -> None:
    own = world.kilns.issue("gone", "/CN=kiln-9")
    assert gateway.cli("devices", "add", "kiln-9", "--profile", "kiln").returncode == 0
    wait_for(lambda: let_in(world, gateway, "kiln-9", own), "the device to be known")
    assert gateway.cli("devices", "revoke", "kiln-9").returncode == 0
    wait_for(lambda: not let_in(world, gateway, "kiln-9", own), "the revocation to be known")


def test_an_authority_below_the_one_that_is_named_issues_for_it_too(world: World, gateway: RunningGateway) -> None:
    below = world.kilns.below("below")
    own = below.issue("deep", "/CN=kiln-1")
    own[0].write_text(own[0].read_text() + below.path.read_text())
    assert let_in(world, gateway, "kiln-1", own)
    own = below.issue("deeper", "/CN=oven-1")
    own[0].write_text(own[0].read_text() + below.path.read_text())
    assert not let_in(world, gateway, "oven-1", own)


def post(
    gateway: RunningGateway, device: str, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLSocket:
    """A request by a connection of its own, which goes on with a session; closed, ``status`` is what came."""
    secured = wrapped(gateway, context, session)
    secured.sendall(request(device))
    return secured


def wrapped(gateway: RunningGateway, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    address = urlsplit(gateway.url)
    plain = socket.create_connection((address.hostname, address.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)


def shaken(world: World, gateway: RunningGateway, certificate: Pair) -> ssl.SSLSocket:
    """A connection whose handshake is done."""
    return wrapped(gateway, client(world.root.path, certificate))


def request(device: str) -> bytes:
    return f'POST /v1/devices/{device}/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{{"a":1}}'.encode()


def status(secured: ssl.SSLSocket) -> int:
    return int(secured.recv(4096).split(b" ")[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tickets", [True, False])
def test_a_resumed_session_is_judged_as_the_full_one(
    world: World, gateway: RunningGateway, version: ssl.TLSVersion, tickets: bool
) -> None:
    for device, expected in (("kiln-1", {200}), ("oven-1", REFUSED)):
        context = client(world.root.path, world.kilns.issue("resuming", f"/CN={device}"))
        context.minimum_version = context.maximum_version = version
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
        session, reused = None, []
        for _ in range(3):
            with post(gateway, device, context, session) as secured:
                assert status(secured) in expected
                reused.append(secured.session_reused)
                session = secured.session
        assert reused[0] is False
        assert any(reused) or (version is ssl.TLSVersion.TLSv1_2 and not tickets)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_a_connection_that_asked_for_nothing_is_judged_too(
    world: World, gateway: RunningGateway, version: ssl.TLSVersion
) -> None:
    """A connection may break behind its handshake, or be a page's: what was shown on it counts for those that go on."""
    for device, expected in (("kiln-1", {200}), ("oven-1", REFUSED)):
        context = client(world.root.path, world.kilns.issue(f"silent-{version}", f"/CN={device}"))
        context.minimum_version = context.maximum_version = version
        with wrapped(gateway, context) as first:
            first.sendall(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status(first) == 404
            session = first.session
        with post(gateway, device, context, session) as secured:
            assert status(secured) in expected
            assert secured.session_reused


def test_a_reload_takes_another_authority(world: World, gateway: RunningGateway) -> None:
    own, new = world.kilns.issue("old", "/CN=kiln-1"), world.ovens.issue("new", "/CN=kiln-1")
    assert let_in(world, gateway, "kiln-1", own)
    shutil.copy(world.ovens.path, world.listed)
    try:
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: let_in(world, gateway, "kiln-1", new), "the new authority to count")
        assert not let_in(world, gateway, "kiln-1", own)
    finally:
        shutil.copy(world.kilns.path, world.listed)
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: let_in(world, gateway, "kiln-1", own), "the old authority to be back")


def dial(world: World, gateway: RunningGateway, device: str, certificate: Pair | None, **more: Any) -> ClientConnection:
    url = f"{gateway.ws}/v1/devices/{device}/stream"
    return connect(url, ssl=client(world.root.path, certificate), compression=None, **more)


def test_who_is_connected_by_an_authority_that_a_reload_takes_away_is_out(
    world: World, gateway: RunningGateway
) -> None:
    token = gateway.cli("devices", "add", "kiln-5", "--profile", "kiln").stdout.strip()
    bearer, own = {"Authorization": f"Bearer {token}"}, world.kilns.issue("five", "/CN=kiln-5")
    wait_for(lambda: let_in(world, gateway, "kiln-5", own), "the device to be known")
    new = world.ovens.issue("new-5", "/CN=kiln-1")
    with (
        dial(world, gateway, "kiln-1", world.kilns.issue("live", "/CN=kiln-1")) as kiln,
        dial(world, gateway, "plain-1", world.others.issue("live", "/CN=plain-1")) as plain,
        dial(world, gateway, "kiln-5", None, additional_headers=bearer) as by_token,
    ):
        assert [answer(connection)["type"] for connection in (kiln, plain, by_token)] == ["welcome"] * 3
        shutil.copy(world.ovens.path, world.listed)
        try:
            gateway.process.send_signal(signal.SIGHUP)
            with pytest.raises(ConnectionClosed, match="1008"):
                kiln.recv(timeout=10)
            wait_for(lambda: let_in(world, gateway, "kiln-1", new), "the new authority to count")
            for connection in (plain, by_token):
                connection.send('{"seq":1,"a":1}')
                assert answer(connection)["type"] == "ack"
        finally:
            shutil.copy(world.kilns.path, world.listed)
            gateway.process.send_signal(signal.SIGHUP)
            wait_for(lambda: not let_in(world, gateway, "kiln-1", new), "the old authority to be back")


def test_simulated_devices_show_certificates(world: World, gateway: RunningGateway, tmp_path: Path) -> None:
    """One by its common name, one by an alternative one, each of its profile's authority; the third of another's."""
    shown = tmp_path / "certificates"
    shown.mkdir()
    for device, issued in (
        ("kiln-1", world.kilns.issue("sim-kiln", "/CN=kiln-1")),
        ("oven-1", world.ovens.issue("sim-oven", "/CN=somebody", "DNS:oven-1")),
    ):
        (shown / f"{device}.pem").write_text("".join(path.read_text() for path in issued))
    arguments = ("--url", gateway.ws, "--ca", str(world.root.path), "--certificates", str(shown), "--interval", "50ms")
    with simulate(tmp_path, "run", *arguments, "--duration", "1s") as run:
        report = run.finish(30)
    assert report["summary"]["stopped"] == 0
    assert {device["id"] for device in report["devices"] if device["acked_to"] >= 0} == {"kiln-1", "oven-1"}
    (shown / "oven-1.pem").unlink()
    foreign = world.ovens.issue("sim-foreign", "/CN=kiln-1")
    (shown / "kiln-1.pem").write_text("".join(path.read_text() for path in foreign))
    with simulate(tmp_path, "run", *arguments) as run:
        output, _ = run.process.communicate(timeout=30)
    assert run.process.returncode == 1
    assert "does not accept its credentials" in output


def test_a_handshake_from_before_a_reload_is_judged_by_the_authorities_of_after(world: World, tmp_path: Path) -> None:
    """Where one authority counts for all, too: the certificate was verified by one that is gone."""
    config: dict[str, Any] = world.config() | {"profiles": {}}
    with running_gateway(tmp_path, config) as gateway:
        assert gateway.cli("devices", "add", "late").returncode == 0
        own = world.others.issue("late", "/CN=late")
        wait_for(lambda: let_in(world, gateway, "late", own), "the device to be known")
        with shaken(world, gateway, own) as before, shaken(world, gateway, own) as after:
            before.sendall(request("late"))
            assert status(before) == 200
            config["server"]["tls"]["client_ca"] = str(world.kilns.path)
            gateway.config.write_text(yaml.safe_dump(config_for(tmp_path, config)))
            gateway.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "was read again" in gateway.log, "the reload")
            after.sendall(request("late"))
            assert status(after) == 401


def test_a_device_whose_profile_is_gone_is_judged_by_the_one_it_is_served_by(world: World, tmp_path: Path) -> None:
    config = world.config()
    config["profiles"] = {"default": {"client_ca": str(world.kilns.path)}, "gone": {}}
    with running_gateway(tmp_path, config) as gateway:
        assert gateway.cli("devices", "add", "d", "--profile", "gone").returncode == 0
        general, of_default = world.others.issue("general", "/CN=d"), world.kilns.issue("default", "/CN=d")
        wait_for(lambda: let_in(world, gateway, "d", general), "the device to be known")
        with dial(world, gateway, "d", general) as connection:
            assert answer(connection)["type"] == "welcome"
            del config["profiles"]["gone"]  # type: ignore[attr-defined]
            gateway.config.write_text(yaml.safe_dump(config_for(tmp_path, config)))
            gateway.process.send_signal(signal.SIGHUP)
            with pytest.raises(ConnectionClosed, match="1008"):
                connection.recv(timeout=10)
        assert not let_in(world, gateway, "d", general)
        assert let_in(world, gateway, "d", of_default)
