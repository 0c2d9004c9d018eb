"""History from a real gateway with SQLite."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

TS = 1_700_000_000_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    profiles = {"default": {"fields": {"temp": {"type": "float", "unit": "°C"}}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"profiles": profiles}) as running:
        yield running


def post(gateway: RunningGateway, device: str, message: Any) -> tuple[int, Any]:
    return gateway.request(f"/v1/devices/{device}/readings", body=json.dumps(message).encode())


def query(gateway: RunningGateway, **arguments: Any) -> tuple[int, Any]:
    return gateway.request("/v1/query?" + urllib.parse.urlencode(arguments))


def test_a_series_is_downsampled_by_the_database(gateway: RunningGateway) -> None:
    values = [float(n % 10) for n in range(100)]
    message = [{"ts": TS + n * 1000, "values": {"wave": value}} for n, value in enumerate(values)]
    assert post(gateway, "series", message)[1]["accepted"] == 100
    gateway.settled("series")
    status, body = query(gateway, device="series", field="wave", **{"from": TS, "to": TS + 100_000}, points=10)
    assert status == 200
    assert (body["coarse"], body["resolution_ms"]) == (False, 10_000)
    assert body["points"] == [
        {"time": TS + n * 10_000, "min": 0.0, "mean": 4.5, "max": 9.0, "count": 10} for n in range(10)
    ]
    moments = {"from": "2023-11-14T22:13:20Z", "to": "2023-11-14T22:13:21+00:00"}
    assert query(gateway, device="series", field="wave", **moments)[1]["points"] == [
        {"time": TS, "min": 0.0, "mean": 0.0, "max": 0.0, "count": 1}
    ]


def test_a_coarse_answer_says_so_and_has_fewer_points(gateway: RunningGateway) -> None:
    message = [{"ts": TS + n * 1000, "values": {"wave": n}} for n in range(300)]
    assert post(gateway, "coarse", message)[1]["accepted"] == 300
    gateway.settled("coarse")
    asked = {"device": "coarse", "field": "wave", "from": TS, "to": TS + 300_000, "points": 300}
    fine, coarse = query(gateway, **asked)[1], query(gateway, **asked, coarse=1)[1]
    assert (fine["coarse"], fine["resolution_ms"], len(fine["points"])) == (False, 1000, 300)
    assert (coarse["coarse"], coarse["resolution_ms"], len(coarse["points"])) == (True, 2500, 120)


def test_intervals_without_a_value_are_left_out(gateway: RunningGateway) -> None:
    assert post(gateway, "gappy", [{"ts": TS + n, "values": {"wave": 1}} for n in (0, 1000, 9000)])[0] == 200
    gateway.settled("gappy")
    found = query(gateway, device="gappy", field="wave", **{"from": TS, "to": TS + 10_000}, points=10)[1]
    assert [point["time"] - TS for point in found["points"]] == [0, 1000, 9000]


def test_the_fields_of_a_device_have_types_and_units(gateway: RunningGateway) -> None:
    assert gateway.request("/v1/series?device=nobody") == (200, {"series": []})
    assert post(gateway, "listed", {"temp": 20.5, "open": True, "where": "attic"})[0] == 200
    gateway.settled("listed")
    status, body = gateway.request("/v1/series?device=listed")
    assert status == 200
    assert body["series"] == [
        {"measurement": "telemetry", "field": field, "type": kind, "unit": unit}
        for field, kind, unit in (("open", "boolean", None), ("temp", "float", "°C"), ("where", "string", None))
    ]
    assert gateway.request("/v1/series")[0] == 400


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"field": "x"}, "device"),
        ({"device": "x"}, "field"),
        ({"device": "x", "field": "y", "points": 0}, "points must be"),
        ({"device": "x", "field": "y", "coarse": 2}, "coarse must be"),
        ({"device": "x", "field": "y", "from": "yesterday"}, "RFC 3339"),
        ({"device": "x", "field": "y", "from": "2023-01-01T00:00:00"}, "time zone"),
        ({"device": "x", "field": "y", "from": 5, "to": 5}, "from must be before to"),
        ({"device": "x", "field": "y", "from": 10**30}, "RFC 3339"),
    ],
)
def test_a_wrong_query_is_told(gateway: RunningGateway, arguments: dict[str, Any], words: str) -> None:
    status, body = query(gateway, **arguments)
    assert status == 400
    assert words in body["error"]["message"]
