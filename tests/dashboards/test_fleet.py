"""The fleet dashboard: each query, filled in as Grafana does it, is sent to an InfluxDB that a gateway has written to.

Rules that hold here:

* Every variable is filled as Grafana fills it: ``All`` becomes the found values as a group, or the variable's own.
* A query has an answer if a series has a value other than 0 or null, because ``fill(0)`` makes up rows.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.devices.session_runner import REASONS as REASONS_BY_CODE
from gateway.websocket.disconnect_cause import CloseCause
from tests.support.device import device
from tests.support.gateway import running_gateway
from tests.support.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Influxd

DASHBOARD = json.loads((Path(__file__).parents[2] / "dashboards" / "fleet.json").read_text())
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
REASONS = sorted({*REASONS_BY_CODE.values(), *map(str, CloseCause), "one-of-tomorrow"})
SIMULATED = 3
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


@dataclass
class Shown:
    """Sends the dashboard's queries to ``database`` as Grafana would: the last hour in intervals of ten minutes."""

    influxd: Influxd
    database: str
    until_ms: int

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of a panel's query."""
        since_ms = self.until_ms - 3_600_000
        around = f"time >= {since_ms}ms and time <= {self.until_ms}ms"
        filled = query.replace("$timeFilter", around).replace("$__interval", "10m")
        filled = filled.replace("${__from}", str(since_ms)).replace("${__to}", str(self.until_ms))
        for name in ("measurement", "field", "device", "back"):
            if f"${name}" in filled:
                filled = filled.replace(f"${name}", self.variable(name))
        assert not re.search(r"\$\{?\w", filled), filled
        return self.influxd.query(filled, self.database)

    def variable(self, name: str) -> str:
        """The text that replaces a variable when the dashboard opens."""
        (found,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == name]
        if found["type"] == "custom":
            return str(found["current"]["value"])
        return found.get("allValue") or f"({'|'.join(map(re.escape, self.choices(found)))})"

    def choices(self, variable: dict[str, Any]) -> list[str]:
        """The values that a variable offers."""
        rows = [row for series in self.ask(variable["query"]) for row in series["values"]]
        values = [row[1] if variable["query"].startswith("SHOW TAG VALUES") else row[0] for row in rows]
        return [value for value in values if re.search(variable.get("regex", "").strip("/"), value)]

    def panel(self, title: str) -> list[dict[str, Any]]:
        """The series of all queries of a panel."""
        return [series for name, target in TARGETS if name == title for series in self.ask(target["query"])]

    def total(self, title: str) -> int:
        """The sum over all values of a panel."""
        return sum(row[1] or 0 for series in self.panel(title) for row in series["values"])

    def last(self, title: str) -> int:
        """The last value of a panel's only series."""
        (series,) = self.panel(title)
        return int(series["values"][-1][1])


@pytest.fixture(scope="module")
def shown(influxd: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Simulated devices connected, sent and left; one is still connected; one disconnected earlier, for every reason.

    One more connected two hours ago, before the range of the panels, and has sent ten readings in one minute.
    """
    directory = tmp_path_factory.mktemp("fleet")
    database = influxd.create_database()
    influx = {"url": influxd.url, "api": "v1", "database": database}
    with running_gateway(directory, {"sink": "influxdb", "influxdb": influx}) as gateway:
        run = ["--devices", str(SIMULATED), "--interval", "100ms", "--duration", "1s", "--url", gateway.ws]
        with simulate(directory, "run", *run) as simulation:
            simulation.finish(60)
        with device(gateway, "kiln-1") as socket:
            socket.send('{"seq":1,"m":"kiln","temp":21.5}')
            socket.recv(timeout=10)
            gateway.settled("kiln-1")
            before = history(time.time_ns())
            for _ in range(2):  # the first write to a shard may be lost
                influxd.write(database, before)
            yield Shown(influxd, database, time.time_ns() // 1_000_000)


def history(now_ns: int) -> bytes:
    """Line protocol of what happened before the test."""
    two_hours_ago, then = now_ns - 120 * MINUTE_NS, now_ns - 30 * MINUTE_NS
    lines = [f'device_status,device=old connected=true,reason="connected" {two_hours_ago}']
    for n, reason in enumerate(REASONS):
        lines.append(f'device_status,device=gone-{n} connected=true,reason="connected" {then}')
        lines.append(f'device_status,device=gone-{n} connected=false,reason="{reason}" {then + SECOND_NS}')
    minute = (now_ns // (10 * MINUTE_NS) - 2) * 10 * MINUTE_NS + 3 * MINUTE_NS
    lines += [f"slow,device=old level={n} {minute + n * SECOND_NS}" for n in range(10)]
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize(
    ("panel", "target"), [pytest.param(title, each, id=f"{title} {each['refId']}") for title, each in TARGETS]
)
def test_every_query_answers(shown: Shown, panel: str, target: dict[str, Any]) -> None:
    values = [value for series in shown.ask(target["query"]) for row in series["values"] for value in row[1:]]
    assert any(values), (panel, target["query"])


def test_variables_offer_what_is_there(shown: Shown) -> None:
    offered = {v["name"]: shown.choices(v) for v in DASHBOARD["templating"]["list"] if v["type"] == "query"}
    assert {"kiln", "slow"} < set(offered["measurement"])
    assert "device_status" not in offered["measurement"]
    assert {"temp", "level"} <= set(offered["field"])
    assert {"kiln-1", "old", "gone-0"} < set(offered["device"])


def test_connected_devices_are_counted_from_before_the_range(shown: Shown) -> None:
    assert shown.last("Connected at the end") == 2
    assert shown.last("Devices connected") == 2
    assert shown.last("Not connected at the end") == len(REASONS) + SIMULATED


def test_each_disconnect_has_one_reason(shown: Shown) -> None:
    assert shown.total("Disconnects by reason") == shown.total("Disconnects in the range") == len(REASONS) + SIMULATED
    assert shown.total("Connects") == shown.total("Connects in the range") == len(REASONS) + SIMULATED + 1


def test_a_reason_of_the_gateway_is_not_other(shown: Shown) -> None:
    (other,) = [each for title, each in TARGETS if title == "Disconnects by reason" and each["alias"] == "other"]
    known = {"server", "aborted", "error"}  # a gateway without faults writes none of these
    (series,) = shown.ask(other["query"])
    assert sum(row[1] for row in series["values"]) == len(known | {"one-of-tomorrow"})


def test_every_reading_is_counted_once(shown: Shown) -> None:
    (talker,) = [each for each in shown.panel("Top talkers") if each["tags"]["device"] == "old"]
    assert dict(zip(talker["columns"], talker["values"][0], strict=True))["count_level"] == 10
    (slow,) = [each for each in shown.panel("Readings per minute") if each["name"] == "slow"]
    column = slow["columns"].index("count_level")
    assert [row[column] for row in slow["values"] if row[column]] == [10]
    assert len(slow["values"]) >= 60, "each minute"
    (sent,) = [each for each in shown.panel("Devices that sent data") if each["name"] == "kiln"]
    assert sent["values"][-1][sent["columns"].index("count_count_temp")] == 1


def test_last_data_is_one_line_for_each_device(shown: Shown) -> None:
    devices = [each["tags"]["device"] for each in shown.panel("Last data")]
    assert len(devices) == len(set(devices)) == SIMULATED + 2
    assert all(len(each["values"]) == 1 for each in shown.panel("Last data"))
