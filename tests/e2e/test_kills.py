"""SIGKILL at random moments, again and again, under load: nothing acknowledged is missing and nothing is there twice.

The number of kills is small enough for every change; the full size is one command away:
``GATEWAY_KILLS=500 pytest tests/e2e/test_kills.py -s``. ``GATEWAY_KILLS_SEED`` repeats the moments of a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import modes
from tests.support.gateway import RunningGateway, launched_gateway, merged, running_gateway, wait_for
from tests.support.servers import Influxd, free_port
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KILLS = int(os.environ.get("GATEWAY_KILLS", "50"))
"""Of both databases together."""
SEED = int(os.environ.get("GATEWAY_KILLS_SEED", str(random.randrange(1 << 32))))
STARTS_KILLED = 0.15
"""Share of kills that hit a process before it listens; the others come once devices are being acknowledged."""
LONGEST_START = 1.2
LONGEST_LIFE = 0.6
DEVICES = 30
INTERVAL = "50ms"
DRAIN_SECONDS = 60

# Small segments that go at once, so that kills meet rotation, checkpoints and removal as well as appends.
BUSY: dict[str, Any] = {
    "spool": {"segment_bytes": "64KiB", "max_bytes": "64MiB", "keep_delivered": "0s"},
    "batch": {"max_readings": 200, "max_age": "50ms"},
}


def kill_in_the_start(directory: Path, over: Mapping[str, Any], rng: random.Random) -> None:
    with launched_gateway(directory, over) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.2, LONGEST_START))
        assert process.poll() is None, "a start was refused"
        process.kill()
        assert process.wait() == -signal.SIGKILL


def kill_under_load(directory: Path, over: Mapping[str, Any], rng: random.Random) -> None:
    with running_gateway(directory, over) as gateway:
        wait_for(lambda: messages(gateway) > 0, "messages to be acknowledged")
        time.sleep(rng.uniform(0.0, LONGEST_LIFE))
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL


def messages(gateway: RunningGateway) -> float:
    """How many messages this process has on disk."""
    return gateway.metric("gateway_messages_received_total")


def assert_ledgers_are_exact(gateway: RunningGateway, acked: int) -> None:
    accounts = gateway.accounts()
    assert len(accounts) == DEVICES
    assert sum(sums["pending"] for sums in accounts.values()) == 0
    stored = sum(sums["stored"] for sums in accounts.values())
    assert stored == acked, "the ledger counts what the devices were told"


@pytest.mark.parametrize("database", ["sqlite", "influxdb"])
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(
    tmp_path: Path, influxd: Influxd, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(f"{SEED} {database}")
    over = merged(BUSY, {"server": {"listen": f"127.0.0.1:{free_port()}"}})
    where = [f"sqlite:{tmp_path}/gateway/data.db"]
    if database == "influxdb":
        name = influxd.create_database()
        over = merged(over, {"sink": "influxdb", "influxdb": {"url": influxd.url, "api": "v1", "database": name}})
        where = [influxd.url, "--db", name]
    directory, url = tmp_path / "gateway", f"{modes.SCHEMES[1]}://{over['server']['listen']}"
    options = ("--devices", str(DEVICES), "--interval", INTERVAL, "--grace", f"{DRAIN_SECONDS}s", "--quiet")
    with simulate(tmp_path, "run", "--url", url, *options) as simulation:
        for _ in range(KILLS // 2):
            kill = kill_in_the_start if rng.random() < STARTS_KILLED else kill_under_load
            kill(directory, over, rng)
        with running_gateway(directory, over) as gateway:
            simulation.end_readings()
            report = simulation.finish(2 * DRAIN_SECONDS)
            wait_for(lambda: gateway.pending() == 0, "everything to be delivered", DRAIN_SECONDS)
            assert_ledgers_are_exact(gateway, report["summary"]["acked"])
    verdict = verify(tmp_path / "report.json", *where)
    counts = " ".join(f"{name} {verdict[name]}" for name in ("acked", "stored", "missing", "doubled"))
    with capsys.disabled():
        print(f"\n{KILLS // 2} kills, {database}: {counts} (GATEWAY_KILLS_SEED={SEED})")
    assert verdict["acked"] == verdict["stored"] == report["summary"]["acked"] > KILLS * DEVICES
    assert verdict["missing"] == verdict["wrong"] == verdict["doubled"] == 0
