"""More comes than the disk and the database take: memory stays within its bounds, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.disk import slow_calls
from tests.support.flood import Flooder, flooding
from tests.support.gateway import merged, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from tests.support.gateway import RunningGateway

DEVICES = 12
MESSAGES = 140
READINGS = 50
TEXT = 1000
SENT_BYTES = DEVICES * MESSAGES * READINGS * TEXT
"""84 MB of values, and more with what is around them."""
SYNC_SECONDS = 2.5
"""Longer than the keepalive's time-out. The queue takes some MiB in that time, the devices send as much in a moment."""
MAX_QUEUED = 8 * 1024**2
"""What may wait for the disk, with a spool of 64 MiB or more."""
CONNECTION = 64 * 1024 + 64 * 1024
"""What a connection may hold: the part of a message of ``max_message_bytes``, and a chunk that was read."""
BATCHES = 8 * 1000 * 200
"""The batches in flight and the next ones: 200 bytes for each of ``max_readings``."""
MEMORY = 8 * MAX_QUEUED + DEVICES * CONNECTION + BATCHES
"""What the process may grow by. A commit is there as messages, as the parts of a record and as the record, then once
more as it is read for delivery; and the allocator does not give all of it back."""
STORED = """
    SELECT count(*), count(DISTINCT time_ns), min(length(value)), max(length(value))
    FROM readings WHERE field = 'text' GROUP BY device
"""
CONFIG = {
    "spool": {"max_bytes": "256MiB", "keep_delivered": "0s"},
    "batch": {"max_readings": 1000, "max_in_flight": 2, "max_age": "50ms"},
    "limits": {"max_unacked": 100_000},
    "keepalive": {"ping_interval": "1s", "timeout": "2s"},
}


def memory(gateway: RunningGateway, what: str) -> int:
    """In bytes: ``VmRSS`` for now, ``VmHWM`` for the most there was."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


def overload(gateway: RunningGateway, scratch: Path) -> list[Flooder]:
    """Send all of it over a disk that is too slow for a while; what each device was told."""
    fleet = [Flooder(f"flood-{n}", MESSAGES, READINGS, TEXT) for n in range(DEVICES)]
    with flooding(gateway, fleet, 60), slow_calls(gateway.process.pid, "fdatasync", SYNC_SECONDS, scratch):
        wait_for(lambda: gateway.metric("gateway_connections_paused") == DEVICES, "all to be paused")
        assert MAX_QUEUED // 4 < gateway.metric("gateway_commit_queue_bytes") < MAX_QUEUED
        wait_for(lambda: all(flooder.throttled for flooder in fleet), "all to be told")
    return fleet


def test_overload_is_bounded_and_nothing_is_lost(tmp_path: Path) -> None:
    with ScriptedServer(Reply(503, {"Retry-After": "1"})) as script:
        away = {"sink": "influxdb", "influxdb": {"url": script.url, "api": "v1", "database": "d"}}
        with running_gateway(tmp_path, merged(CONFIG, away)) as gateway:
            before = memory(gateway, "VmRSS")
            fleet = overload(gateway, tmp_path)
            grown = memory(gateway, "VmHWM") - before
            print(f"{SENT_BYTES >> 20} MiB sent, {grown >> 20} MiB of {MEMORY >> 20} taken; {fleet[0].throttled}")
            assert grown < MEMORY < SENT_BYTES
            assert {limit for flooder in fleet for limit in flooder.throttled} == {"commit_queue"}
            assert gateway.metric("gateway_reads_paused_total") >= DEVICES
            assert gateway.metric("gateway_connections_paused") == 0
            assert gateway.metric('gateway_connections_total{result="accepted"}') == DEVICES, "keepalive cut off some"
            assert gateway.metric("gateway_spool_bytes") > SENT_BYTES, "only the disk fills"
            assert gateway.stop() == 0
    with running_gateway(tmp_path, CONFIG) as gateway:
        wait_for(lambda: gateway.pending() == 0, "everything to be delivered", 60)
        assert_every_reading_is_stored_once(gateway)
        assert gateway.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data.db")) as database:
        stored = database.execute(STORED).fetchall()
    assert stored == [(MESSAGES * READINGS, MESSAGES * READINGS, TEXT, TEXT)] * DEVICES


def test_a_full_spool_lets_everybody_go_on_once_the_database_is_back(tmp_path: Path) -> None:
    """What is throttled writes nothing: no commit tells those who are not read that they can go on."""
    fleet = [Flooder(f"obedient-{n}", 50, 20, 500) for n in range(40)]
    small = {"spool": {"max_bytes": "16MiB", "keep_delivered": "0s"}}
    with ScriptedServer(Reply(503, {"Retry-After": "1"})) as script:
        away = {"sink": "influxdb", "influxdb": {"url": script.url, "api": "v1", "database": "d"}}
        with running_gateway(tmp_path, merged(merged(CONFIG, away), small)) as gateway:
            with flooding(gateway, fleet, 30):
                wait_for(lambda: sum("spool_bytes" in one.throttled for one in fleet) > 20, "the spool to be full")
                script.says(Reply(204))
            assert gateway.metric("gateway_connections_paused") == 0
            assert gateway.stop() == 0


def assert_every_reading_is_stored_once(gateway: RunningGateway) -> None:
    accounts = gateway.accounts()
    assert len(accounts) == DEVICES
    for name, sums in accounts.items():
        columns = ("stored", "duplicate", "rejected", "dropped", "pending")
        assert sums["received"] == sum(sums[column] for column in columns), (name, sums)
        assert (sums["stored"], sums["rejected"], sums["dropped"]) == (MESSAGES * READINGS, 0, 0), (name, sums)
