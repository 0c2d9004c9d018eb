"""The gateway refuses a type conflict before the database does; the type in the database decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.disk import failing_calls
from tests.support.gateway import RunningGateway, running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Influxd

TS = 1_764_000_000_000
CONFLICT = {"index": 0, "field": "temp", "code": "wrong_type", "message": "expected float, got string"}


def influxdb(server: Influxd, database: str, **more: Any) -> dict[str, Any]:
    return {"sink": "influxdb", "influxdb": {"url": server.url, "api": "v1", "database": database}, **more}


def post(gateway: RunningGateway, device: str, at: int, **values: Any) -> dict[str, Any]:
    body = json.dumps({"ts": TS + at, "values": values}).encode()
    status, answer = gateway.request(f"/v1/devices/{device}/readings", body=body)
    assert status == 200, answer
    return dict(answer)


def test_a_conflict_is_refused_with_field_expected_and_got_across_devices_and_restarts(
    tmp_path: Path, influxd: Influxd
) -> None:
    over = influxdb(influxd, influxd.create_database())
    with running_gateway(tmp_path, over) as gateway:
        assert post(gateway, "a", 0, temp=21.5, state="on")["accepted"] == 1
        assert post(gateway, "b", 1, temp="warm")["rejected"] == [CONFLICT]
        assert gateway.settled("a")["stored"] == 1
        sums = gateway.settled("b")
        assert (sums["received"], sums["rejected"]) == (1, 1)
        assert gateway.stop() == 0
    with running_gateway(tmp_path, over) as gateway:
        assert post(gateway, "b", 2, temp="warm")["rejected"] == [CONFLICT]
        assert post(gateway, "c", 2, state=1)["rejected"][0]["message"] == "expected string, got number"
        assert json.loads(gateway.cli("dead-letters", "list", "--json").stdout) == []
        gateway.settled("b")


def test_a_reading_that_did_not_become_durable_sets_no_type(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {"state": {"directory": str(tmp_path / "state")}}) as gateway:
        assert post(gateway, "a", 0, other=1)["accepted"] == 1
        gateway.settled("a")
        body = json.dumps({"ts": TS, "values": {"temp": "broken", "other": 2}}).encode()
        with failing_calls(gateway.process.pid, "fdatasync", "EIO", tmp_path):
            assert gateway.request("/v1/devices/a/readings", body=body)[0] == 503
        wait_for(lambda: gateway.request("/readyz")[0] == 200, "the disk to be good again")
        assert post(gateway, "b", 1, temp=21.5)["accepted"] == 1
        assert post(gateway, "b", 2, temp="warm")["rejected"] == [CONFLICT]
        assert post(gateway, "b", 3, other="text")["rejected"][0]["field"] == "other", "what was known before still is"


def test_the_database_decides_the_type_of_a_field(tmp_path: Path, influxd: Influxd) -> None:
    """A wrong first reading becomes a dead letter; the right ones after it are stored."""
    database = influxd.create_database()
    influxd.write(database, b"telemetry,device=old temp=20.5 1764000000000000000\n")
    with running_gateway(tmp_path, influxdb(influxd, database)) as gateway:
        assert post(gateway, "a", 1, temp="broken")["accepted"] == 1
        assert gateway.settled("a")["rejected"] == 1
        assert post(gateway, "a", 2, temp=21.5)["rejected"] == []
        assert gateway.settled("a")["stored"] == 1
        assert post(gateway, "a", 3, temp="broken")["rejected"] == [CONFLICT]
        assert [letter["kind"] for letter in json.loads(gateway.cli("dead-letters", "list", "--json").stdout)] == [
            "type_conflict"
        ]
        gateway.settled("a")


def test_an_operator_sees_types_and_forgets_one(tmp_path: Path, influxd: Influxd) -> None:
    profiles = {"default": {"fields": {"n": {"type": "int"}}}}
    with running_gateway(tmp_path, influxdb(influxd, influxd.create_database(), profiles=profiles)) as gateway:
        post(gateway, "a", 0, temp=1, state="on")

        def types() -> dict[str, str]:
            found = json.loads(gateway.cli("types", "list", "--measurement", "telemetry", "--json").stdout)
            return {each["field"]: each["type"] for each in found}

        wait_for(lambda: types() == {"n": "int", "temp": "float", "state": "string"}, "the types to be kept")
        assert "a reading, 20" in gateway.cli("types", "list").stdout
        assert gateway.cli("types", "forget", "telemetry", "n").returncode == 1
        assert gateway.cli("types", "forget", "telemetry", "unheard").returncode == 1
        assert gateway.cli("types", "forget", "telemetry", "state").returncode == 0
        assert "state" not in types()
        wait_for(lambda: not post(gateway, "b", 1, state=True)["rejected"], "the gateway to see it")
        assert post(gateway, "a", 2, state="on")["rejected"][0]["message"] == "expected bool, got string"


def test_there_is_no_file_before_the_first_type(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert gateway.stop() == 0
        for file in (tmp_path / "state").glob("field_types.db*"):
            file.unlink()
        assert gateway.cli("types", "list", "--json").stdout == "[]\n"
        assert gateway.cli("types", "forget", "m", "f").returncode == 1
        assert not list((tmp_path / "state").glob("field_types.db*"))
