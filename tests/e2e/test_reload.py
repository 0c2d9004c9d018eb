"""SIGHUP: what can change does so under connected devices, what cannot is named, what is wrong is refused."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from websockets.exceptions import ConnectionClosed

from tests.support.device import answer, device
from tests.support.gateway import RunningGateway, config_for, merged, running_gateway, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Influxd

OLD, NEW = "old-admin-token-0123456789", "new-admin-token-0123456789"
SETTINGS = "/v1/devices?limit=1"
ASKS_EARLY = """
import os, signal, sys
from gateway import app
from gateway.cli import cli

start = app.Gateway.start

async def asked(gateway, inherited=()):
    os.kill(os.getpid(), signal.SIGHUP)
    await start(gateway, inherited)

app.Gateway.start = asked
cli(["run", "--config", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    auth = {"admin_token": OLD, "viewer_token": "the-viewer-token-0123456789"}
    with running_gateway(tmp_path_factory.mktemp("reload"), {"auth": auth}) as running:
        yield running


def reload(gateway: RunningGateway, over: dict[str, Any] | str, word: str) -> None:
    """Write the file (``over`` on top of what it says, or as text), have it read, and wait for ``word`` in the log."""
    text = over if isinstance(over, str) else yaml.safe_dump(merged(yaml.safe_load(gateway.config.read_text()), over))
    gateway.config.write_text(text)
    seen = len(gateway.log)
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: word in gateway.log[seen:], f"{word} in the log")


def ready(gateway: RunningGateway) -> dict[str, Any]:
    return dict(gateway.request("/readyz")[1])


def say(socket: Any, message: dict[str, Any]) -> dict[str, Any]:
    """A numbered message, and the first thing that comes back."""
    socket.send(json.dumps(message))
    return answer(socket)


def test_profiles_limits_tokens_and_the_log_level_change_under_a_connected_device(gateway: RunningGateway) -> None:
    with device(gateway, "kiln-1") as kiln:
        assert say(kiln, {"seq": 0, "temp": 2000}) == {"type": "ack", "seq": 0}
        assert gateway.request(SETTINGS, token=OLD)[0] == 200
        over = {
            "profiles": {"default": {"fields": {"temp": {"max": 1400}}}},
            "limits": {"burst": 4321},
            "auth": {"admin_token": NEW},
            "server": {"max_connections": 1},
            "logging": {"level": "debug", "format": "json"},
        }
        reload(gateway, over, "was read again")
        reject = say(kiln, {"seq": 1, "temp": 2000})
        assert reject["errors"][0]["code"] == "out_of_range"
        assert answer(kiln) == {"type": "ack", "seq": 1}
        assert say(kiln, {"type": "hello"})["limits"]["burst"] == 4321
        assert gateway.request(SETTINGS, token=OLD)[0] == 401
        assert gateway.request(SETTINGS, token=NEW)[0] == 200
        with pytest.raises(ConnectionClosed, match=r"1013.*too many connections"), device(gateway, "kiln-2"):
            pass
    last = json.loads(gateway.log.splitlines()[-1])
    assert last["level"] in {"debug", "info"}
    assert gateway.metric('gateway_config_reloads_total{result="applied"}') == 1
    reload(gateway, {"server": {"max_connections": 1000}}, "was read again")


def test_what_needs_a_restart_is_named(gateway: RunningGateway) -> None:
    over = {"server": {"listen": "127.0.0.1:1"}, "spool": {"max_bytes": "2GiB"}, "limits": {"burst": 777}}
    before = gateway.config.read_text()
    reload(gateway, over, "need a restart: server.listen, spool.max_bytes")
    state = ready(gateway)
    assert state["ready"]
    assert state["configuration"]["needs_restart"] == ["server.listen", "spool.max_bytes"]
    assert "server.listen, spool.max_bytes" in state["warnings"][0]
    with device(gateway, "kiln-3") as kiln:
        assert say(kiln, {"type": "hello"})["limits"]["burst"] == 777
    reload(gateway, before, "was read again")
    assert ready(gateway)["configuration"]["needs_restart"] == []


def test_a_wrong_file_is_refused_with_all_its_problems_until_it_is_right(gateway: RunningGateway) -> None:
    before = gateway.config.read_text()
    with device(gateway, "kiln-4") as kiln:
        wrong = {"limits": {"burst": "lots"}, "keepalive": {"timeout": "1s"}, "logging": {"level": "info"}}
        reload(gateway, wrong, "keepalive.timeout: must be longer")
        state = ready(gateway)
        assert [problem.partition(":")[0] for problem in state["configuration"]["refused"]] == [
            "limits.burst",
            "keepalive.timeout",
        ]
        assert state["ready"]
        assert len(state["warnings"]) == 2
        assert gateway.request(SETTINGS, token=NEW)[0] == 200
        assert say(kiln, {"seq": 0, "temp": 1}) == {"type": "ack", "seq": 0}
        reload(gateway, "server: [", "expected")
        assert len(ready(gateway)["configuration"]["refused"]) == 1
        assert gateway.metric('gateway_config_reloads_total{result="refused"}') == 2
        reload(gateway, before, "was read again")
        assert ready(gateway)["configuration"]["refused"] == []
        assert say(kiln, {"seq": 1, "temp": 1}) == {"type": "ack", "seq": 1}


def test_the_database_changes_under_load_and_nothing_is_lost(tmp_path: Path, influxd: Influxd) -> None:
    database = influxd.create_database()
    sent, stop = 0, threading.Event()
    with running_gateway(tmp_path, {"batch": {"max_readings": 50}}) as gateway, device(gateway, "d") as socket:

        def load() -> None:
            nonlocal sent
            while not stop.is_set():
                stamp = 1_700_000_000_000 + sent
                socket.send(json.dumps({"seq": sent, "ts": stamp, "values": {"n": sent}}))
                sent += 1
                while sent % 50 == 0 and answer(socket).get("seq") != sent - 1:
                    pass

        sending = threading.Thread(target=load)
        sending.start()
        wait_for(lambda: gateway.ledger("d")["stored"] > 100, "readings in the first database")
        influx = {"url": influxd.url, "api": "v1", "database": database}
        reload(gateway, {"sink": "influxdb", "influxdb": influx}, "readings go to InfluxDB")
        wait_for(lambda: len(influxd.points(database, "telemetry")) > 100, "readings in the second database")
        stop.set()
        sending.join(20)
        assert gateway.settled("d")["stored"] == sent
        assert ready(gateway)["database"]["sink"].startswith("InfluxDB")
        assert gateway.stop() == 0
    assert len(in_sqlite(tmp_path / "data.db") | {p["n"] for p in influxd.points(database, "telemetry")}) == sent


def test_a_reload_that_is_asked_for_during_the_start_ends_nothing_and_comes_after_it(tmp_path: Path) -> None:
    path, log = tmp_path / "config.yaml", tmp_path / "log"
    path.write_text(yaml.safe_dump(config_for(tmp_path, {})))
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", ASKS_EARLY, str(path)], stdout=output, stderr=output)
    try:
        wait_for(lambda: process.poll() is not None or "was read again" in log.read_text(), "the file to be read again")
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def in_sqlite(path: Path) -> set[float]:
    db = sqlite3.connect(path)
    try:
        return {value for (value,) in db.execute("SELECT value FROM readings WHERE field = 'n'")}
    finally:
        db.close()
