"""Settings of a device, desired over HTTP and reported by devices that PyPI websockets connects."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import threading
import tracemalloc
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from gateway.devices import settings
from gateway.protocol.merge_patch import MAX_SETTINGS
from gateway.protocol.reports import Reported, reported
from gateway.state.device_settings import DeviceSettingsStore, SettingsReport
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.simulator import simulate
from tests.support.visitor import Answer, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"auth": {"viewer_token": VIEWER}}) as running:
        yield running


@contextmanager
def device(gateway: RunningGateway, name: str) -> Iterator[ClientConnection]:
    """Connected and welcomed."""
    with connect(f"{gateway.ws}/v1/devices/{name}/stream") as socket:
        assert hear(socket)["type"] == "welcome"
        yield socket


def hear(socket: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(socket.recv(timeout=10)))


def report(socket: ClientConnection, settings: Any, version: int | None = None) -> None:
    socket.send(json.dumps({"type": "reported", "version": version, "settings": settings}))


def silent(socket: ClientConnection) -> None:
    with pytest.raises(TimeoutError):
        socket.recv(timeout=0.1)


def put(gateway: RunningGateway, name: str, settings: Any, **more: Any) -> Answer:
    body = {"settings": settings, **more}
    return Visitor(gateway.url).send("PUT", path(name), body, Authorization=f"Bearer {ADMIN}")


def look(gateway: RunningGateway, name: str) -> Any:
    return Visitor(gateway.url).send("GET", path(name), Authorization=f"Bearer {ADMIN}").body


def path(name: str) -> str:
    return f"/v1/devices/{name}/settings"


def test_settings_go_down_when_they_change_and_when_the_device_comes(gateway: RunningGateway) -> None:
    with device(gateway, "dev") as socket:
        assert look(gateway, "dev")["desired"] == {"version": 0, "settings": {}, "changed_at": None, "by": None}
        answer = put(gateway, "dev", {"interval_ms": 500, "led": {"on": True, "dim": 5}})
        assert answer.status == 200
        desired = answer.body["desired"]
        assert (desired["version"], desired["by"]) == (1, {"role": "admin", "address": "127.0.0.1"})
        assert answer.body["difference"] == desired["settings"] == {"interval_ms": 500, "led": {"on": True, "dim": 5}}
        assert hear(socket) == {"type": "settings", "version": 1, "settings": desired["settings"]}
        put(gateway, "dev", {"interval_ms": None, "led": {"dim": 7}})
        newest = {"type": "settings", "version": 2, "settings": {"led": {"on": True, "dim": 7}}}
        assert hear(socket) == newest
        assert put(gateway, "dev", {"led": {"dim": 7}, "none": None}).body["desired"]["version"] == 2
        silent(socket)
    put(gateway, "dev", {"rate": 1})
    with device(gateway, "dev") as socket:  # only the newest
        assert hear(socket) == {"type": "settings", "version": 3, "settings": {**newest["settings"], "rate": 1}}
        silent(socket)
    assert "device dev: settings, version 3, by admin at 127.0.0.1" in gateway.log


def test_what_a_device_reports_is_merged_and_what_is_missing_is_told(gateway: RunningGateway) -> None:
    with device(gateway, "says") as socket:
        report(socket, {"firmware": "1.2", "led": {"on": False, "dim": 1}})
        wait_for(lambda: look(gateway, "says")["reported"]["settings"], "the report")
        put(gateway, "says", {"led": {"on": True}, "rate": 2})
        assert hear(socket)["version"] == 1
        report(socket, {"led": {"on": True, "dim": None}}, 1)
        wait_for(lambda: look(gateway, "says")["reported"]["version"] == 1, "the report")
        twin = look(gateway, "says")
        assert twin["reported"]["settings"] == {"firmware": "1.2", "led": {"on": True}}
        assert twin["difference"] == {"rate": 2}
        assert twin["reported"]["at"] >= twin["desired"]["changed_at"]


def test_who_was_slower_is_told_of_the_others_version(gateway: RunningGateway) -> None:
    with device(gateway, "shared") as socket:
        assert put(gateway, "shared", {"a": 1}, version=0).body["desired"]["version"] == 1
        answer = put(gateway, "shared", {"a": 2}, version=0)
        assert (answer.status, answer.code, answer.body["error"]["version"]) == (409, "version_conflict", 1)
        assert hear(socket)["settings"] == {"a": 1}
        silent(socket)
        assert put(gateway, "shared", {"a": 2}, version=1).status == 200


def test_neither_side_grows_beyond_its_limit(gateway: RunningGateway) -> None:
    half = "x" * 5000
    with device(gateway, "large") as socket:
        assert put(gateway, "large", {"a": half}).status == 200
        assert hear(socket)["type"] == "settings"
        answer = put(gateway, "large", {"b": half})
        assert (answer.status, answer.code) == (413, "too_large")
        report(socket, {"a": half})
        wait_for(lambda: look(gateway, "large")["reported"]["settings"], "the report")
        for settings in ({"b": half}, {"b": "x" * 8192}):  # too much with what there is, and by itself
            report(socket, settings)
            assert hear(socket)["code"] == "bad_message"
        report(socket, {"a": None, "b": half})
        wait_for(lambda: "b" in look(gateway, "large")["reported"]["settings"], "the report")
        assert look(gateway, "large")["reported"]["settings"] == {"b": half}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"settings": []},
        {"settings": {"a": [[[[[[[[1]]]]]]]]}},
        {"settings": {}, "version": "1"},
        {"settings": {}, "version": True},
        {"a": 1},
    ],
)
def test_what_are_no_settings_is_told(gateway: RunningGateway, body: Any) -> None:
    with device(gateway, "picky"):
        answer = Visitor(gateway.url).send("PUT", path("picky"), body, Authorization=f"Bearer {ADMIN}")
        assert (answer.status, answer.code) == (400, "bad_request")
    assert look(gateway, "picky")["desired"]["version"] == 0


def test_settings_are_an_administrators_business(gateway: RunningGateway) -> None:
    visitor = Visitor(gateway.url)
    for method in ("GET", "PUT"):
        assert visitor.send(method, path("dev"), {"settings": {}}).status == 401
        assert visitor.send(method, path("dev"), {"settings": {}}, Authorization=f"Bearer {VIEWER}").status == 403
        answer = visitor.send(method, path("nobody"), {"settings": {}}, Authorization=f"Bearer {ADMIN}")
        assert (answer.status, answer.code) == (404, "unknown_device")


def test_no_more_reports_wait_than_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        twins, goes_on = DeviceSettingsStore(tmp_path / "settings.db"), threading.Event()
        write = twins.report

        def slow(reports: list[SettingsReport]) -> list[str]:
            assert goes_on.wait(20)
            return write(reports)

        monkeypatch.setattr(twins, "report", slow)
        link = settings.SettingsExchange(twins, lambda _device: None)
        for n in range(settings.MAX_WAITING):
            assert link.reported("fast", Reported(None, b'{"n":%d,"n%d":%d}' % (n, n, n)))
        assert not link.reported("fast", Reported(None, b'{"n":-1}'))
        others = (settings.MAX_WAITING_IN_ALL - settings.MAX_WAITING) + 1  # one of the first is being written
        assert all(link.reported(f"d{n}", Reported(None, b"{}")) for n in range(others))
        assert not link.reported("late", Reported(None, b"{}"))
        goes_on.set()
        reported = json.loads((await link.show("fast")).reported)
        assert reported["n"] == 0  # the first transaction had but one
        while not link.reported("fast", Reported(None, b'{"last":true}')):
            await link.show("fast")
        await link.close()

    asyncio.run(main())
    with closing(sqlite3.connect(tmp_path / "settings.db")) as db:
        ((count,),) = db.execute("SELECT count(*) FROM twins")
        ((reported,),) = db.execute("SELECT reported FROM twins WHERE device = 'fast'")
    last = settings.MAX_WAITING - 1
    assert count == settings.MAX_WAITING_IN_ALL - settings.MAX_WAITING + 2
    assert {"n": last, f"n{last}": last, "n0": 0, "last": True}.items() <= json.loads(reported).items()


def test_reports_that_wait_take_the_room_of_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = b'{"type":"reported","settings":{"a":[%s]}}' % b",".join([b"[]"] * (MAX_SETTINGS // 3 - 10))

    async def main() -> int:
        twins, goes_on = DeviceSettingsStore(tmp_path / "settings.db"), threading.Event()
        monkeypatch.setattr(twins, "report", lambda _reports: [] if goes_on.wait(20) else None)
        link = settings.SettingsExchange(twins, lambda _device: None)
        tracemalloc.start()
        for _ in range(settings.MAX_WAITING):
            assert link.reported("d", reported(json.loads(most)))
        waiting, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        goes_on.set()
        await link.close()
        return waiting

    assert asyncio.run(main()) < settings.MAX_WAITING * 2 * MAX_SETTINGS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_settings_survive_a_restart(tmp_path: Path, number: int) -> None:
    with running_gateway(tmp_path) as gateway, device(gateway, "dev") as socket:
        socket.send('{"seq":1,"a":1}')
        assert hear(socket)["type"] == "ack"
        put(gateway, "dev", {"a": 1})
        assert hear(socket)["version"] == 1
        report(socket, {"a": 1}, 1)
        wait_for(lambda: look(gateway, "dev")["difference"] == {}, "the report")
        gateway.stop(number)
    with running_gateway(tmp_path) as gateway:
        with device(gateway, "dev") as socket:
            assert hear(socket) == {"type": "settings", "version": 1, "settings": {"a": 1}}
        assert look(gateway, "dev")["reported"]["settings"] == {"a": 1}


def test_what_cannot_be_written_is_not_sent(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway, device(gateway, "dev") as socket:
        with closing(sqlite3.connect(tmp_path / "state/settings.db", isolation_level=None)) as db:
            db.execute("DROP TABLE twins")
        answer = put(gateway, "dev", {"a": 1})
        assert (answer.status, answer.code) == (503, "settings")
        report(socket, {"a": 1})
        silent(socket)
        wait_for(lambda: "could not be kept" in gateway.log, "the warning")
        assert "Traceback" not in gateway.log


def test_simulated_devices_take_settings_and_report_them(gateway: RunningGateway, tmp_path: Path) -> None:
    with simulate(tmp_path, "run", "--url", gateway.ws, "--devices", "1", "--interval", "100ms") as simulation:
        wait_for(lambda: put(gateway, "sim-0", {"a": {"b": 1, "c": 2}}).status == 200, "the device")
        wait_for(lambda: look(gateway, "sim-0")["reported"]["version"] == 1, "the first report")
        put(gateway, "sim-0", {"a": {"b": None}})
        wait_for(lambda: look(gateway, "sim-0")["reported"]["version"] == 2, "the second report")
        assert look(gateway, "sim-0")["reported"]["settings"] == {"a": {"c": 2}}
        simulation.end_readings()
        summary = simulation.finish(20)["summary"]
    assert (summary["settings"], summary["violations"]) == (2, 0)
