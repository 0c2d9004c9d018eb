"""The JSON endpoints of a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.api.readings import MAX_DISCARDED_BYTES
from gateway.devices.readings_by_request import NotNow, ReadingsByRequest
from gateway.errors import SpoolFull
from gateway.ledger import NO_SEQ
from gateway.process.clock import WallClock
from gateway.protocol.messages import Readings
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.sessions import encoder
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

TS = 1_700_000_000_000
VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    profiles = {"default": {"fields": {"temp": {"type": "float", "unit": "°C"}}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"profiles": profiles}) as running:
        yield running


def post(gateway: RunningGateway, device: str, message: Any) -> tuple[int, Any]:
    return gateway.request(f"/v1/devices/{device}/readings", body=json.dumps(message).encode())


def test_devices_are_paged_and_searched(gateway: RunningGateway) -> None:
    for number in range(5):
        assert post(gateway, f"Page-{number}", {"n": number})[0] == 200
    status, body = gateway.request("/v1/devices?search=page-&limit=2&offset=2")
    assert status == 200
    assert (body["total"], body["offset"]) == (5, 2)
    assert [device["id"] for device in body["devices"]] == ["Page-2", "Page-3"]
    assert gateway.request("/v1/devices?search=nothing-like-it")[1]["devices"] == []


@pytest.mark.parametrize("arguments", ["limit=0", "limit=1001", "limit=x", "offset=-1", f"limit={'9' * 5000}"])
def test_a_wrong_number_is_told(gateway: RunningGateway, arguments: str) -> None:
    status, body = gateway.request(f"/v1/devices?{arguments}")
    assert status == 400
    assert "must be a whole number" in body["error"]["message"]


def test_what_was_asked_is_quoted_as_it_was(gateway: RunningGateway) -> None:
    _, body = gateway.request("/v1/devices?limit=5%25")
    assert body["error"]["message"].endswith("not '5%'")


def test_a_device_shows_state_values_units_and_ledger(gateway: RunningGateway) -> None:
    with connect(f"{gateway.ws}/v1/devices/shown/stream") as socket:
        socket.recv()
        socket.send('{"type":"hello","boot":"b","info":{"model":"x1"}}')
        socket.recv()
        socket.send('{"seq":3,"ts":1700000000000,"values":{"temp":1,"where":"attic"}}')
        socket.recv()
        found = gateway.device("shown")
    assert (found["state"], found["connected"], found["rhythm_ms"]) == ("live", True, None)
    assert found["latest"] == {"temp": 1, "where": "attic"}
    assert found["info"] == {"model": "x1"}
    assert found["units"] == {"temp": "°C"}
    assert found["keepalive"]["silent_ms"] < 20_000
    assert gateway.settled("shown")["stored"] == 1
    wait_for(lambda: gateway.device("shown")["state"] == "offline", "the device to be gone")
    gone = gateway.device("shown")
    assert "session" not in gone
    assert gone["keepalive"] is None


def test_an_unknown_device_and_an_unknown_path_are_404_in_json(gateway: RunningGateway) -> None:
    for path, code in (("/v1/devices/nobody", "unknown_device"), ("/v2", "not_found"), ("/v1/", "not_found")):
        status, body = gateway.request(path)
        assert (status, body["error"]["code"]) == (404, code)


def test_readings_by_request_have_limits_too(gateway: RunningGateway) -> None:
    status, body = gateway.request("/v1/devices/poster/readings", body=b'{"a":1}' + b" " * 65536)
    assert (status, body["error"]["code"]) == (413, "too_large")
    status, body = gateway.request("/v1/devices/no%20good/readings", body=b"{}")
    assert (status, body["error"]["code"]) == (400, "bad_device_id")


@pytest.mark.parametrize("size", [65_537, 131_073, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_told_and_the_connection_goes_on(
    gateway: RunningGateway, size: int, *, chunked: bool
) -> None:
    with contextlib.closing(gateway.keep_alive()) as connection:
        body = b" " * size
        connection.request(
            "POST", "/v1/devices/poster/readings", iter([body]) if chunked else body, encode_chunked=chunked
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "too_large")
        connection.request("POST", "/v1/devices/poster/readings", b'{"a":1}')
        assert json.loads(connection.getresponse().read())["accepted"] == 1


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}
HANDSHAKE = {**UPGRADE, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 426, "upgrade_required"),
        ({**HANDSHAKE, "Connection": "close"}, 426, "upgrade_required"),
        (UPGRADE, 426, "upgrade_required"),
        ({**HANDSHAKE, "Sec-WebSocket-Version": "8"}, 426, "upgrade_required"),
        ({**HANDSHAKE, "Origin": "http://elsewhere.example"}, 403, "bad_origin"),
    ],
)
def test_what_is_no_handshake_is_told_in_json(
    guarded: RunningGateway, headers: dict[str, str], status: int, code: str
) -> None:
    with contextlib.closing(guarded.keep_alive()) as connection:
        connection.request("GET", "/v1/devices/x/stream", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (status, code)


SERVER = {"max_connections": 1, "allowed_origins": ["https://dashboard.example"]}


def test_pages_send_readings_from_allowed_origins_only(guarded: RunningGateway) -> None:
    def send(origin: str) -> tuple[int, str]:
        path = "/v1/devices/paged/readings"
        answer = Visitor(guarded.url).send("POST", path, b'{"a":1}', Origin=origin)
        return answer.status, answer.code

    assert {send(origin) for origin in ("http://evil.example", "null")} == {(403, "bad_origin")}
    assert {send(origin) for origin in ("https://dashboard.example", guarded.url)} == {(401, "unauthorized")}


def test_readings_of_a_request_refused_whole_are_in_the_ledger_too(gateway: RunningGateway) -> None:
    assert post(gateway, "deep", [{"a": 1}, {"a": {"b": {"c": {"d": 1}}}}])[0] == 400
    wait_for(lambda: gateway.settled("deep")["rejected"] == 2, "the commit")


@pytest.fixture(scope="module")
def thrifty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that lets a device send a few small messages."""
    sizes = {"byte_burst": "64KiB", "bytes_per_second": "1KiB"}
    limits = {"burst": 100, "readings_per_second": 1, "message_burst": 5, "messages_per_second": 1, **sizes}
    with running_gateway(tmp_path_factory.mktemp("thrifty"), {"limits": limits}) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("malformed", b"{", "malformed_json"),
        ("no-readings", b'{"type":"hello"}', "bad_message"),
        ("too-deep", b'[{"a":1},{"a":{"b":{"c":{"d":1}}}}]', "bad_message"),
    ],
)
def test_messages_refused_whole_by_request_are_paid_for(
    thrifty: RunningGateway, name: str, body: bytes, code: str
) -> None:
    refused = 0
    while (answer := thrifty.request(f"/v1/devices/{name}/readings", body=body))[0] == 400:
        assert answer[1]["error"]["code"] == code
        refused += 1
        assert refused < 50, "a message a second may be refused, and five at once"
    assert (answer[0], answer[1]["error"]["limit"]) == (429, "messages_per_second")
    readings = 2 * refused if name == "too-deep" else 0
    wait_for(lambda: thrifty.device(name)["ledger"]["rejected"] == readings, "what was refused to be counted")
    assert thrifty.device(name)["limits"]["throttles"] == 1


def test_a_body_that_is_too_large_is_paid_for(thrifty: RunningGateway) -> None:
    assert thrifty.request("/v1/devices/large/readings", body=b" " * 1_000_000)[0] == 413
    status, body = post(thrifty, "large", {"a": 1})
    assert (status, body["error"]["limit"]) == (429, "bytes_per_second")
    assert thrifty.request("/v1/devices/large/readings", body=b" " * 1_000_000)[0] == 429


def test_backlog_by_request_is_taken_while_live_readings_have_to_wait(thrifty: RunningGateway) -> None:
    assert post(thrifty, "late", [{"n": n} for n in range(200)])[0] == 200
    status, body = post(thrifty, "late", {"n": 1})
    assert (status, body["error"]["limit"]) == (429, "readings_per_second")
    assert post(thrifty, "late", {"ts": TS, "values": {"n": 1}}) == (200, {"accepted": 1, "rejected": []})


def test_a_request_refused_whole_teaches_no_types(gateway: RunningGateway) -> None:
    assert post(gateway, "deep", [{"taught": "x"}, {"a": {"b": {"c": {"d": 1}}}}])[0] == 400
    assert post(gateway, "other", {"taught": 1}) == (200, {"accepted": 1, "rejected": []})


class FullSpool:
    def append(self, _entry: Any, _owner: Any) -> None:
        raise SpoolFull


def test_readings_that_the_spool_would_not_take_teach_no_types() -> None:
    """It may still be full behind the first look at it, which came before the readings were judged."""
    spool: Any = FullSpool()
    others: Any = Mock()
    service = ReadingsByRequest(
        clock=WallClock(),
        connections=others,
        fleet=others,
        metrics=others,
        problems=others,
        profiles=others,
        spool=spool,
    )
    some = encoder()
    encoded = some.encode(Readings(NO_SEQ, ({"taught": "x"},)), TS * 10**6)
    with pytest.raises(NotNow):
        asyncio.run(service._store(encoded, TS * 10**6))
    assert some.encode(Readings(NO_SEQ, ({"taught": 1},)), TS * 10**6).lines == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    over = {"auth": {"mode": "token", "viewer_token": VIEWER, "admin_token": ADMIN}, "server": SERVER}
    with running_gateway(tmp_path_factory.mktemp("guarded"), over) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/devices/x", "/v1/query?device=x&field=y"])
def test_looking_needs_a_token_once_there_is_one(guarded: RunningGateway, path: str) -> None:
    for token in (None, "wrong", VIEWER[:-1]):
        status, body = guarded.request(path, token=token)
        assert (status, body["error"]["code"]) == (401, "unauthorized")
    for token in (VIEWER, ADMIN):
        assert guarded.request(path, token=token)[0] != 401


def test_a_request_needs_the_devices_token(guarded: RunningGateway) -> None:
    token = guarded.cli("devices", "add", "registered", "--tag", "site=attic").stdout.strip()
    path = "/v1/devices/registered/readings"
    wait_for(lambda: guarded.request(path, body=b'{"a":1}', token=token)[0] == 200, "the device to be known")
    for wrong in (None, "x", VIEWER, ADMIN):
        assert guarded.request(path, body=b"{}", token=wrong)[0] == 401
    assert guarded.request("/v1/devices/registered", token=VIEWER)[1]["tags"] == {"site": "attic"}


def test_what_a_stranger_sends_pushes_out_no_half_body_of_a_device(guarded: RunningGateway) -> None:
    token = guarded.request("/v1/devices", body=b'{"id":"half"}', token=ADMIN)[1]["token"]
    head = f"POST /v1/devices/half/readings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    with guarded.dial() as half:
        half.sendall(head.encode() + b'Content-Length: 7\r\n\r\n{"a"')
        assert guarded.request("/v1/devices/stranger/readings", body=b" " * MAX_DISCARDED_BYTES)[0] == 401
        half.sendall(b":1}")
        assert half.recv(1024).startswith(b"HTTP/1.1 200")


def test_one_connection_too_many_is_told_to_come_back(guarded: RunningGateway) -> None:
    made = [guarded.request("/v1/devices", body=f'{{"id":"{n}"}}'.encode(), token=ADMIN)[1] for n in "ab"]
    tokens = [str(one["token"]) for one in made]
    url = f"{guarded.ws}/v1/devices/%s/stream"
    with contextlib.ExitStack() as strangers:
        for n in range(20):
            strangers.enter_context(connect(url % f"stranger{n}"))
        with connect(url % "a", additional_headers={"Authorization": f"Bearer {tokens[0]}"}) as first:
            assert json.loads(first.recv(timeout=10))["type"] == "welcome", "strangers take no place of a device"
            assert [guarded.metric(f"gateway_connections{kind}") for kind in ("", "_strangers")] == [1, 20]
            header = {"Authorization": f"Bearer {tokens[1]}"}
            with connect(url % "b", additional_headers=header) as second, pytest.raises(ConnectionClosed, match="1013"):
                second.recv(timeout=10)
            with connect(url % "b") as third, pytest.raises(ConnectionClosed, match="1013"):
                third.send(json.dumps({"type": "hello", "token": tokens[1]}))
                third.recv(timeout=10)

    def welcomed() -> bool:
        with connect(url % "b") as again:
            again.send(json.dumps({"type": "hello", "token": tokens[1]}))
            try:
                return bool(json.loads(again.recv(timeout=10))["type"] == "welcome")
            except ConnectionClosed:
                return False

    wait_for(welcomed, "the place to be free again", 5)
    wait_for(welcomed, "a place that was given by a hello to be free again", 5)


def test_a_device_takes_its_own_place_in_a_full_house(guarded: RunningGateway) -> None:
    """It may have lost a connection that the gateway does not know to be dead yet."""
    token = str(guarded.request("/v1/devices", body=b'{"id":"c"}', token=ADMIN)[1]["token"])
    url, header = f"{guarded.ws}/v1/devices/c/stream", {"Authorization": f"Bearer {token}"}
    with contextlib.ExitStack() as sockets:
        dead = sockets.enter_context(connect(url, additional_headers=header))
        assert json.loads(dead.recv(timeout=10))["type"] == "welcome"
        by_header = sockets.enter_context(connect(url, additional_headers=header))
        assert json.loads(by_header.recv(timeout=10))["type"] == "welcome"
        with pytest.raises(ConnectionClosed, match="4409"):
            dead.recv(timeout=10)
        by_hello = sockets.enter_context(connect(url))
        by_hello.send(json.dumps({"type": "hello", "token": token}))
        assert json.loads(by_hello.recv(timeout=10))["type"] == "welcome"
