"""A clock that was never set, is set, jumps or is behind the disk; and that no timer goes by it."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.app import Gateway
from gateway.config import load
from gateway.ledger import Account
from gateway.process.clock import BEHIND_NS, EARLIEST_NS, TOLD_NS, WallClock
from gateway.protocol.rate_limits import Allowance
from gateway.protocol.session import Session, Terms
from gateway.time_units import NS_PER_S as NS
from tests.support.gateway import config_for
from tests.support.sessions import encoder, rates

TODAY = 1_790_000_000 * NS
MAY_ASK_THE_TIME = {
    "api/commands.py",
    "api/device_socket.py",
    "api/device.py",
    "api/devices.py",
    "api/enrolments.py",
    "api/query.py",
    "api/readings.py",
    "devices/settings.py",
    "live/status.py",
    "api/status.py",
    "cli/enrolment.py",
    "cli/spool.py",
    "delivery/dead_letters.py",
    "delivery/dispatcher.py",
    "delivery/forwarder.py",
    "delivery/health.py",
    "devices/accounting.py",
    "devices/acks.py",
    "devices/commands.py",
    "devices/enrolment.py",
    "devices/session_runner.py",
    "devices/token_delivery.py",
    "http/certificate_expiry.py",
    "http/login_cookies.py",
    "live/events.py",
    "live/feed.py",
    "process/clock.py",
    "sinks/sqlite/retention_clock.py",
    "sinks/influxdb/sink.py",
    "sinks/sqlite/sink.py",
    "spool/queue.py",
    "state/backup.py",
    "state/field_types.py",
    "state/registry_cache.py",
    "state/registry.py",
}
"""Modules that stamp what they write or show with the wall clock, or compare stamps. Timers are not among them."""


class Machine:
    """Its clocks, as a test sets them."""

    def __init__(self, wall: int) -> None:
        self.wall, self.monotonic = wall, 50 * NS
        self.clock = WallClock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, seconds: float, *, jump: float = 0) -> None:
        self.wall += round((seconds + jump) * NS)
        self.monotonic += round(seconds * NS)
        self.clock.look()


def test_a_clock_that_runs_causes_no_warning() -> None:
    machine = Machine(TODAY)
    machine.clock.newest_ns = TODAY - NS
    machine.passes(3600)
    machine.passes(0.5, jump=0.4)
    assert machine.clock.wrong is None
    assert list(machine.clock.warnings()) == []
    assert machine.clock.jumps == 0


@pytest.mark.parametrize("jump", [3600, -3600, 86400 * 365])
def test_a_jump_is_told_for_a_while(jump: int) -> None:
    machine = Machine(TODAY)
    machine.passes(0.5, jump=jump)
    machine.passes(9.5)
    assert list(machine.clock.warnings()) == [f"the machine's clock jumped by {jump:+.1f} s 10 s ago"]
    assert machine.clock.jumps == 1
    machine.passes(TOLD_NS / NS)
    assert list(machine.clock.warnings()) == []


def test_a_clock_behind_the_disk_is_doubted_until_it_has_caught_up() -> None:
    machine = Machine(TODAY)
    machine.clock.newest_ns = TODAY + BEHIND_NS + 2 * NS
    assert "one of the two is wrong" in next(machine.clock.warnings())
    assert machine.clock.wrong is None
    machine.passes(3)
    assert list(machine.clock.warnings()) == []


def test_a_clock_that_was_never_set_is_wrong_until_it_is() -> None:
    machine = Machine(3600 * NS)
    assert machine.clock.wrong == "the machine's clock says 1970-01-01T01:00:00Z and was never set"
    machine.passes(1)
    assert machine.clock.wrong is not None
    machine.passes(1, jump=(EARLIEST_NS - 3600 * NS) / NS)
    assert machine.clock.wrong is None


def test_a_gateway_with_a_clock_that_was_never_set_takes_nothing_until_it_is(tmp_path: Path) -> None:
    def asked(url: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    async def main() -> None:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**config_for(tmp_path, {}), "server": {"listen": "127.0.0.1:0"}}))
        machine = Machine(3600 * NS)
        gateway = Gateway(load(path, {}), machine.clock)
        await gateway.start()
        try:
            status, state = await asyncio.to_thread(asked, f"{gateway.url}/readyz")
            assert status == 503
            assert "never set" in state["blocking"][0]
            body = b'{"temp":1}'
            status, refused = await asyncio.to_thread(asked, f"{gateway.url}/v1/devices/d/readings", body)
            assert (status, refused["error"]["code"]) == (503, "clock")
            socket = gateway.url.replace("http", "ws") + "/v1/devices/d/stream"
            async with connect(socket) as early:
                with pytest.raises(ConnectionClosed, match=r"1013.*clock is not set"):
                    await early.recv()
            machine.passes(1, jump=TODAY / NS)
            assert (await asyncio.to_thread(asked, f"{gateway.url}/readyz"))[0] == 200
            async with connect(socket) as device:
                assert json.loads(await device.recv())["type"] == "welcome"
        finally:
            await gateway.stop()

    asyncio.run(main())


def test_strikes_do_not_outlast_a_clock_that_is_set_back() -> None:
    session = Session(
        "d", "s", Terms(**{name: 2 if name == "strikes_per_minute" else 1000 for name in Terms.__dataclass_fields__})
    )
    session.welcome(Account(), encoder(), Allowance(rates()), TODAY)
    for now in (TODAY, TODAY + NS, TODAY - 3600 * NS, TODAY - 3500 * NS, TODAY - 3400 * NS):
        session.receive(b"{", now)
    assert session.open
    for step in range(3):
        session.receive(b"{", TODAY + step)
    assert not session.open


def test_the_wall_clock_is_asked_where_something_is_stamped_only() -> None:
    root = Path(__file__).parents[2] / "gateway"
    asking = {
        str(path.relative_to(root))
        for path in root.glob("**/*.py")
        if re.search(r"\btime\.time(_ns)?\b|\bdatetime\.now\b", path.read_text())
    }
    assert asking == MAY_ASK_THE_TIME
