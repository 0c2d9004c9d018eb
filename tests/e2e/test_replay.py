"""Dead letters from refusal to settlement, with a real gateway and database: the ledger is exact at every step."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Influxd

TS = 1_764_000_000_000
POINTS = 6


def settings(server: Influxd, database: str) -> dict[str, Any]:
    return {"sink": "influxdb", "influxdb": {"url": server.url, "api": "v1", "database": database}}


def refused_points(gateway: RunningGateway, server: Influxd, database: str) -> None:
    """Have points refused: ``level`` is an integer in the database, and the gateway writes floats."""
    server.write(database, b"telemetry,device=x level=1i 1764000000000000000\n")
    for at in range(POINTS):
        body = json.dumps([{"ts": TS + at, "level": 1.5}, {"ts": TS + at, "other": 1}]).encode()
        assert gateway.request("/v1/devices/a/readings", body=body)[1]["accepted"] == 2
    assert gateway.settled("a") == sums(stored=POINTS, rejected=POINTS)


def sums(*, stored: int, rejected: int = 0, dropped: int = 0) -> dict[str, int]:
    received = stored + rejected + dropped
    zero = {"duplicate": 0, "pending": 0, "gaps": 0}
    return {"received": received, "stored": stored, "rejected": rejected, "dropped": dropped, **zero}


def becomes(gateway: RunningGateway, expected: dict[str, int]) -> None:
    wait_for(lambda: gateway.ledger("a") == expected, f"the ledger to be {expected}, it is {gateway.ledger('a')}")
    metrics = gateway.request("/metrics")[1]
    for column in ("received", "stored", "rejected", "dropped", "pending"):
        assert f'gateway_ledger_readings{{column="{column}"}} {float(expected[column])}' in metrics


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_points_stored_by_a_replay_no_longer_count_as_rejected(
    tmp_path: Path, influxd: Influxd, ending: signal.Signals
) -> None:
    database = influxd.create_database()
    over = settings(influxd, database)
    with running_gateway(tmp_path, over) as gateway:
        refused_points(gateway, influxd, database)
        again = gateway.cli("dead-letters", "replay")
        assert (again.returncode, again.stdout) == (1, f"0 stored, {POINTS} refused again, {POINTS} left\n")
        assert gateway.ledger("a") == sums(stored=POINTS, rejected=POINTS)
        influxd.query("DROP MEASUREMENT telemetry", database)
        mended = gateway.cli("dead-letters", "replay", "--device", "a")
        assert (mended.returncode, mended.stdout) == (0, f"{POINTS} stored, 0 refused again, 0 left\n")
        becomes(gateway, sums(stored=2 * POINTS))
        answer = json.loads(gateway.cli("why", "a", "--time", str(TS), "--json").stdout)
        assert answer["messages"][0]["former_dead_letters"][0]["ended"] == "stored"
        assert "1 were refused and later stored by a replay" in answer["answer"]
        gateway.stop(ending)
    with running_gateway(tmp_path, over) as gateway:
        becomes(gateway, sums(stored=2 * POINTS))
    assert len(influxd.points(database, "telemetry")) == POINTS


def test_dead_letters_settled_while_the_gateway_is_down_are_counted_at_its_start(
    tmp_path: Path, influxd: Influxd
) -> None:
    database = influxd.create_database()
    over = settings(influxd, database)
    with running_gateway(tmp_path, over) as gateway:
        refused_points(gateway, influxd, database)
        gateway.stop(signal.SIGKILL)
        influxd.query("DROP MEASUREMENT telemetry", database)
        assert gateway.cli("dead-letters", "replay").returncode == 0
    for _ in range(2):
        with running_gateway(tmp_path, over) as gateway:
            becomes(gateway, sums(stored=2 * POINTS))
            assert gateway.stop() == 0


def test_readings_of_deleted_dead_letters_stay_rejected(tmp_path: Path, influxd: Influxd) -> None:
    database = influxd.create_database()
    over = settings(influxd, database)
    with running_gateway(tmp_path, over) as gateway:
        refused_points(gateway, influxd, database)
        assert gateway.cli("dead-letters", "drop", "--reason", "type_conflict").stdout == f"{POINTS} dropped\n"
        assert gateway.ledger("a") == sums(stored=POINTS, rejected=POINTS)
        gateway.stop(signal.SIGKILL)
    with running_gateway(tmp_path, over) as gateway:
        becomes(gateway, sums(stored=POINTS, rejected=POINTS))
