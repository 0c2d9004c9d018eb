"""What a device can get wrong, and the documented answer to each, over a real socket."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.device import answer, device
from tests.support.gateway import running_gateway, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.gateway import RunningGateway

TS = 1_700_000_000_000


def closed(socket: ClientConnection) -> tuple[int, str]:
    """Code and reason of the gateway's close, whatever it sent before."""
    with pytest.raises(ConnectionClosed) as ending:
        while True:
            socket.recv(timeout=10)
    assert ending.value.rcvd is not None
    return ending.value.rcvd.code, ending.value.rcvd.reason


def still_takes(socket: ClientConnection, seq: int) -> None:
    """The session went on: a good reading is acknowledged."""
    socket.send(json.dumps({"seq": seq, "values": {"good": 1}}))
    assert answer(socket) == {"type": "ack", "seq": seq}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "malformed_json"),
        ('{"temp":NaN}', "malformed_json"),
        ('"text"', "bad_message"),
        ("17", "bad_message"),
        ("null", "bad_message"),
        ('{"type":"selfdestruct"}', "unknown_type"),
        ('{"type":"result","id":"c1","ok":true}', "unknown_command"),
        ('{"a":{"b":{"c":{"d":1}}}}', "bad_message"),
        ("[" * 5000 + "]" * 5000, "malformed_json"),
        ('{"readings":[' + ",".join(["{}"] * 5001) + "]}", "bad_message"),
        ('{"t0":1,"dt":1,"columns":{"x":[1,2],"y":[1]}}', "bad_message"),
    ],
)
def test_a_message_that_cannot_be_taken_gets_an_error_and_the_session_goes_on(
    gateway: RunningGateway, text: str, code: str
) -> None:
    with device(gateway, "bad-message") as socket:
        socket.send(text)
        error = answer(socket)
        assert (error["type"], error["code"]) == ("error", code), error
        assert error["message"]
        still_takes(socket, 1)


@pytest.mark.parametrize(
    ("reading", "field", "code"),
    [
        ({"values": {"temp": [1, 2]}}, "temp", "wrong_type"),
        ({"values": {"time": 1}}, "time", "bad_name"),
        ({"values": {"_hidden": 1}}, "_hidden", "bad_name"),
        ({"values": {"bell\x07": 1}}, "bell\x07", "bad_name"),
        ({"values": {"": 1}}, "", "bad_name"),
        ({"values": {"n" * 65: 1}}, "n" * 65, "bad_name"),
        ({"values": {"text": "x" * 1025}}, "text", "too_long"),
        ({"values": {f"f{n}": n for n in range(257)}}, None, "too_many_fields"),
        ({"ts": "yesterday", "values": {"temp": 1}}, "ts", "bad_timestamp"),
        ({"ts": True, "values": {"temp": 1}}, "ts", "bad_timestamp"),
        ({"ts": 1e30, "values": {"temp": 1}}, "ts", "timestamp_out_of_range"),
        ({"ts": "9999-01-01T00:00:00Z", "values": {"temp": 1}}, "ts", "timestamp_out_of_range"),
        ({"tags": {"site": "x"}, "values": {"temp": 1}}, "site", "unknown_tag"),
        ({"m": "#comment", "values": {"temp": 1}}, "m", "bad_name"),
    ],
)
def test_one_bad_reading_is_rejected_and_its_neighbours_are_kept(
    gateway: RunningGateway, reading: dict[str, Any], field: str | None, code: str
) -> None:
    good = {"ts": TS, "values": {"temp": 20.5}}
    with device(gateway, "bad-reading") as socket:
        before = gateway.ledger("bad-reading")
        socket.send(json.dumps({"seq": 7, "readings": [good, reading, {**good, "ts": TS + 1}]}))
        answers = [answer(socket), answer(socket)]
        reject, ack = sorted(answers, key=lambda a: a["type"], reverse=True)
        assert ack == {"type": "ack", "seq": 7}
        [error] = reject["errors"]
        assert (reject["seq"], error["index"], error["code"]) == (7, 1, code), error
        if field is not None:
            assert error["field"] == field
    after = gateway.settled("bad-reading")
    assert after["stored"] - before["stored"] == 2
    assert after["rejected"] - before["rejected"] == 1


def test_ten_thousand_fields_in_one_message(gateway: RunningGateway) -> None:
    fields = {f"f{n}": n % 7 for n in range(4000)}
    with device(gateway, "wide") as socket:
        socket.send(json.dumps({"seq": 1, **fields}, separators=(",", ":")))
        [error] = next(a for a in (answer(socket), answer(socket)) if a["type"] == "reject")["errors"]
        assert error["code"] == "too_many_fields"
        still_takes(socket, 2)


def test_ten_thousand_fields_are_too_big_a_message_by_default(gateway: RunningGateway) -> None:
    with device(gateway, "wider") as socket:
        socket.send(json.dumps({f"field{n}": n for n in range(10_000)}))
        assert closed(socket)[0] == 1009


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1])
def test_the_size_limit_is_exact(gateway: RunningGateway, size: int) -> None:
    frame = '{"seq":1,"values":{"a":1},"pad":"' + "x" * (size - 35) + '"}'
    assert len(frame) == size
    with device(gateway, f"size-{size}") as socket:
        socket.send(frame)
        if size == 64 * 1024:
            assert answer(socket) == {"type": "ack", "seq": 1}
        else:
            assert closed(socket)[0] == 1009


def test_a_binary_frame_is_refused_with_1003(gateway: RunningGateway) -> None:
    with device(gateway, "binary") as socket:
        socket.send(b'{"temp":1}')
        assert closed(socket)[0] == 1003


def test_text_that_is_not_utf8_is_refused_with_1007(gateway: RunningGateway) -> None:
    with device(gateway, "latin1") as socket:
        socket.send(b'{"temp":"\xe9"}', text=True)
        assert closed(socket)[0] == 1007


def test_an_unmasked_frame_is_refused_with_1002(gateway: RunningGateway) -> None:
    with device(gateway, "unmasked") as socket:
        socket.socket.sendall(b"\x81\x02{}")
        assert closed(socket)[0] == 1002


def test_too_many_strikes_end_the_session_with_1008(gateway: RunningGateway) -> None:
    with device(gateway, "striker", max_queue=None) as socket:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1000):
                socket.send("{")
        assert closed(socket)[0] == 1008


def test_an_unknown_subprotocol_is_refused_with_the_known_ones(gateway: RunningGateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{gateway.ws}/v1/devices/d/stream", subprotocols=["mqtt"])  # type: ignore[list-item]
    assert refused.value.response.status_code == 400
    assert refused.value.response.body is not None
    assert "telemetry.v1.json" in refused.value.response.body.decode()


@pytest.mark.parametrize("name", ["x" * 129, "white%20space", "semi;colon", "sl%2Fash"])
def test_an_impossible_device_id_is_refused(gateway: RunningGateway, name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{gateway.ws}/v1/devices/{name}/stream")
    assert refused.value.response.status_code == 400


def test_the_newest_of_two_connections_of_one_id_wins(gateway: RunningGateway) -> None:
    with device(gateway, "twin") as older, device(gateway, "twin") as newer:
        code, reason = closed(older)
        assert code == 4409
        assert reason
        still_takes(newer, 1)
        assert gateway.device("twin")["state"] != "offline"


def test_two_devices_with_one_id_do_not_fight_for_ever(gateway: RunningGateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(17):
            stack.enter_context(device(gateway, "contested"))
        with connect(f"{gateway.ws}/v1/devices/contested/stream") as socket:
            assert closed(socket)[0] == 1013
    assert "two devices with one id?" in gateway.log


def test_a_boot_is_remembered_over_many_connections_without_one(gateway: RunningGateway) -> None:
    message = '{"seq":5,"values":{"a":1}}'
    with device(gateway, "flaky") as socket:
        socket.send('{"type":"hello","boot":"b1"}')
        answer(socket)
        socket.send(message)
        assert answer(socket) == {"type": "ack", "seq": 5}
    for _ in range(12):
        with device(gateway, "flaky"):
            pass
    with device(gateway, "flaky") as socket:
        socket.send('{"type":"hello","boot":"b1"}')
        assert answer(socket)["last_seq"] == 5
        socket.send(message)
        assert answer(socket) == {"type": "ack", "seq": 5}
    sums = gateway.settled("flaky")
    assert (sums["stored"], sums["duplicate"]) == (1, 1)


def test_names_with_special_characters_arrive_as_they_were_sent(gateway: RunningGateway) -> None:
    names = ["with space", "a,b", "a=b", 'quo"te', "back\\slash", "ünïcödé", "温度", "a'b", "100%", "#x"]
    with device(gateway, "names") as socket:
        socket.send(json.dumps({"seq": 1, "ts": TS, "values": {name: n for n, name in enumerate(names)}}))
        assert answer(socket) == {"type": "ack", "seq": 1}
    gateway.settled("names")
    assert gateway.device("names")["latest"] == {name: n for n, name in enumerate(names)}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that asks for tokens and has short time-outs."""
    over = {
        "auth": {"mode": "token", "timeout": "1s"},
        "keepalive": {"ping_interval": "500ms", "timeout": "1500ms"},
        "profiles": {
            "default": {
                "strict": True,
                "fields": {"temp": {"type": "float", "min": -40, "max": 85}, "n": {"type": "int"}},
            }
        },
    }
    with running_gateway(tmp_path_factory.mktemp("strict"), over) as running:
        yield running


def token_for(gateway: RunningGateway, name: str) -> str:
    """The token of a new device, once the gateway has seen what another process wrote into its registry."""
    added = gateway.cli("devices", "add", name)
    assert added.returncode == 0, added.stderr
    token = added.stdout.strip()
    path = f"/v1/devices/{name}/readings"
    wait_for(lambda: gateway.request(path, body=b"[]", token=token)[0] == 200, "the new device to be known")
    return token


def connect_with(gateway: RunningGateway, name: str, token: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"}
    return connect(f"{gateway.ws}/v1/devices/{name}/stream", additional_headers=headers)


def refusal(gateway: RunningGateway, name: str, token: str) -> bytes:
    with pytest.raises(InvalidStatus) as refused, connect_with(gateway, name, token):
        pass
    assert refused.value.response.status_code == 401
    return bytes(refused.value.response.body or b"")


def test_a_wrong_token_and_an_unknown_device_get_the_same_401(strict: RunningGateway) -> None:
    token_for(strict, "known")
    wrong = refusal(strict, "known", "x" * 43)
    assert wrong == refusal(strict, "unknown", "x" * 43)
    assert json.loads(wrong)["error"]["code"] == "unauthorized"


def test_credentials_in_the_header_the_subprotocol_and_the_first_message(strict: RunningGateway) -> None:
    token = token_for(strict, "three-ways")
    with connect_with(strict, "three-ways", token) as socket:
        assert answer(socket)["type"] == "welcome"
    url = f"{strict.ws}/v1/devices/three-ways/stream"
    with connect(url, subprotocols=["telemetry.v1.json", f"bearer.{token}"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "telemetry.v1.json"
        assert answer(socket)["type"] == "welcome"
    with connect(url) as socket:
        socket.send(json.dumps({"type": "hello", "token": token}))
        assert answer(socket)["type"] == "welcome"
    with connect(url) as socket:
        socket.send(json.dumps({"type": "hello", "token": "wrong"}))
        assert closed(socket)[0] == 4401


def test_no_token_in_time_is_closed_with_4401(strict: RunningGateway) -> None:
    with connect(f"{strict.ws}/v1/devices/silent/stream") as socket:
        assert closed(socket)[0] == 4401


def test_readings_before_credentials_are_not_taken(strict: RunningGateway) -> None:
    with connect(f"{strict.ws}/v1/devices/eager/stream") as socket:
        socket.send('{"temp":1}')
        assert closed(socket)[0] == 4401
    assert strict.request("/v1/devices/eager")[0] == 404


def test_a_strict_profile_names_field_expectation_and_what_came(strict: RunningGateway) -> None:
    with connect_with(strict, "profiled", token_for(strict, "profiled")) as socket:
        answer(socket)
        readings = [{"temp": "warm"}, {"temp": 86}, {"other": 1}, {"n": 1.5}, {"temp": 20, "n": 3}]
        socket.send(json.dumps({"seq": 1, "readings": [{"ts": TS + n, "values": v} for n, v in enumerate(readings)]}))
        errors = next(a for a in (answer(socket), answer(socket)) if a["type"] == "reject")["errors"]
        assert [(e["index"], e["field"], e["code"]) for e in errors] == [
            (0, "temp", "wrong_type"),
            (1, "temp", "out_of_range"),
            (2, "other", "unknown_field"),
            (3, "n", "wrong_type"),
        ]
        assert "float" in errors[0]["message"]
        assert "string" in errors[0]["message"]


def test_a_revoked_device_is_closed_with_1008_and_not_let_in_again(strict: RunningGateway) -> None:
    token = token_for(strict, "revoked")
    with connect_with(strict, "revoked", token) as socket:
        answer(socket)
        assert strict.cli("devices", "revoke", "revoked").returncode == 0
        assert closed(socket)[0] == 1008
    refusal(strict, "revoked", token)


def raw_device(gateway: RunningGateway, name: str, token: str) -> sockets.socket:
    """A device on a bare TCP socket, which answers nothing by itself."""
    raw = gateway.dial()
    raw.sendall(
        f"GET /v1/devices/{name}/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    return raw


def test_a_device_that_answers_no_ping_is_dropped_and_recorded(strict: RunningGateway) -> None:
    token = token_for(strict, "stale")
    with raw_device(strict, "stale", token) as raw:
        received = b""
        while chunk := raw.recv(4096):
            received += chunk
    assert b"\x89\x00" in received, "a ping came first"
    assert (4408).to_bytes(2, "big") in received
    wait_for(lambda: strict.device("stale")["state"] == "offline", "the device to be offline")


def test_any_byte_is_life(strict: RunningGateway) -> None:
    token = token_for(strict, "slow-upload")
    with raw_device(strict, "slow-upload", token) as raw:
        wait_for(lambda: strict.device("slow-upload")["state"] != "offline", "the handshake")
        frame = b"\x81\xfe\x01\x00\x00\x00\x00\x00" + b" " * 254 + b"17"
        alive_until = time.monotonic() + 3.5
        for byte in frame:
            if time.monotonic() > alive_until:
                break
            raw.sendall(bytes([byte]))
            time.sleep(0.05)
        assert strict.device("slow-upload")["state"] != "offline"
        assert time.monotonic() > alive_until - 1


def test_a_device_that_stops_reading_is_cut_and_nothing_is_lost(gateway: RunningGateway) -> None:
    """Answers pile up for a device that never reads: the gateway bounds them and lets the device go."""
    with raw_device(gateway, "deaf", "") as raw:
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        bad = b'{"seq":1,"readings":[' + b",".join([b'{"values":{"a":[]}}'] * 2000) + b"]}"
        frame = b"\x81\xfe" + len(bad).to_bytes(2, "big") + bytes(4) + bad
        with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError, ssl.SSLEOFError)):
            for _ in range(1000):
                raw.sendall(frame)
    wait_for(lambda: gateway.device("deaf")["state"] == "offline", "the device to be let go")
    gateway.settled("deaf")


def test_a_readings_request_is_answered_after_the_disk(gateway: RunningGateway) -> None:
    body = b'[{"ts":1700000000000,"values":{"a":1}},{"values":{"b":[]}}]'
    status, result = gateway.request("/v1/devices/poster/readings", body=body)
    assert status == 200
    assert result["accepted"] == 1
    assert [(r["index"], r["field"], r["code"]) for r in result["rejected"]] == [(1, "b", "wrong_type")]
    assert gateway.settled("poster")["stored"] == 1
    for bad, code in ((b"{", "malformed_json"), (b"\xff", "not_utf8"), (b'{"type":"hello"}', "bad_message")):
        status, result = gateway.request("/v1/devices/poster/readings", body=bad)
        assert (status, result["error"]["code"]) == (400, code)


def test_a_restart_finds_everything_again(tmp_path: Path) -> None:
    over = {"auth": {"mode": "open"}}
    with running_gateway(tmp_path, over) as first:
        with device(first, "again") as socket:
            socket.send('{"type":"hello","boot":"b1"}')
            assert answer(socket)["last_seq"] is None
            socket.send('{"seq":4,"values":{"a":1}}')
            assert answer(socket) == {"type": "ack", "seq": 4}
        before = first.settled("again")
        assert first.stop() == 0
    with running_gateway(tmp_path, over) as second, device(second, "again") as socket:
        assert second.ledger("again") == before
        socket.send('{"type":"hello","boot":"b1"}')
        assert answer(socket)["last_seq"] == 4
        socket.send('{"seq":4,"values":{"a":1}}')
        assert answer(socket) == {"type": "ack", "seq": 4}
        assert second.ledger("again")["duplicate"] == before["duplicate"] + 1
