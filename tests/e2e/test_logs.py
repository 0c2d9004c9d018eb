"""What a gateway writes to its log while everything bad is sent to it: no token, no payload, and not too much."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.cli.log_quota import MAX_LINES_PER_DEVICE
from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cretT0ken0123456789abcdef"
"""Tried by devices and clients; the gateway does not know it."""
PAYLOAD = "payl0ad-of-a-device"
BAD_MESSAGES: list[str | bytes] = [
    f"{{{PAYLOAD}",
    json.dumps({"seq": 1, PAYLOAD: {"a": {"b": {"c": {"d": 1}}}}}),
    json.dumps({"seq": 2, "values": {"a": [PAYLOAD]}}),
    json.dumps({"seq": 3, "values": {PAYLOAD * 9: 1}}),
    json.dumps({"seq": 4, "values": {"text": PAYLOAD * 100}}),
    json.dumps({"seq": 5, "ts": PAYLOAD, "values": {"a": 1}}),
    json.dumps({"seq": 6, "tags": {PAYLOAD: PAYLOAD}, "values": {"a": 1}}),
    json.dumps({"type": PAYLOAD}),
    json.dumps({"type": "hello", "boot": PAYLOAD * 9, "token": SECRET}),
    json.dumps({"type": "hello", "info": {"model": PAYLOAD}, "token": SECRET}),
    json.dumps([PAYLOAD, 7, None]),
]
ENDING: list[str | bytes] = [PAYLOAD.encode(), PAYLOAD * 10_000]
NOT_UTF8 = b"\xff" + PAYLOAD.encode()


def speak(gateway: RunningGateway, device: str, messages: list[str | bytes], **options: Any) -> None:
    url = f"{gateway.ws}/v1/devices/{device}/stream"
    with contextlib.suppress(ConnectionClosed, InvalidStatus), connect(url, compression=None, **options) as socket:
        for message in messages:
            socket.send(message)
        while True:
            socket.recv(timeout=0.3)


def send_http(gateway: RunningGateway, *lines: str) -> None:
    with gateway.dial() as raw:
        raw.sendall("\r\n".join([*lines, "", PAYLOAD]).encode("latin-1"))
        with contextlib.suppress(OSError):
            raw.recv(4096)


def test_whatever_is_sent_no_token_and_no_payload_is_logged(tmp_path: Path) -> None:
    basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
    refusal = Reply(400, body=json.dumps({"error": f"unable to parse 'telemetry {PAYLOAD}=1'"}).encode())
    with ScriptedServer(refusal) as database:
        over = {
            "auth": {"mode": "token", "admin_token": "known-" + SECRET[::-1]},
            "logging": {"format": "json", "level": "info"},
            "sink": "influxdb",
            "influxdb": {
                "url": database.url,
                "api": "v1",
                "database": "d",
                "username": "u",
                "password": "known-" + SECRET[::-1],
            },
            "limits": {"strikes_per_minute": 5},
        }
        with running_gateway(tmp_path, over) as gateway:
            token = gateway.cli("devices", "add", "d").stdout.strip()
            header = {"Authorization": f"Bearer {token}"}
            wait_for(lambda: gateway.request("/v1/devices/d/readings", body=b'{"a":1}', token=token)[0] == 200, "d")
            for first in range(0, len(BAD_MESSAGES), 3):
                with contextlib.suppress(TimeoutError):
                    speak(gateway, "d", BAD_MESSAGES[first : first + 3], additional_headers=header)
            for message in ENDING:
                speak(gateway, "d", [message], additional_headers=header)
            with connect(f"{gateway.ws}/v1/devices/d/stream", compression=None, additional_headers=header) as socket:
                socket.send(NOT_UTF8, text=True)
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        socket.recv(timeout=5)
            speak(gateway, "d", [json.dumps({"type": "hello", "token": SECRET})])
            speak(gateway, "d", [], additional_headers={"Authorization": f"Bearer {SECRET}"})
            speak(gateway, "d", [], subprotocols=[f"bearer.{SECRET}"])
            gateway.request("/v1/devices/d/readings", body=PAYLOAD.encode(), token=token)
            gateway.request(f"/v1/devices?search={PAYLOAD}&token={SECRET}", token="wrong" + SECRET)
            gateway.request(f"/v1/devices?limit={PAYLOAD}&token={SECRET}", token="known-" + SECRET[::-1])
            send_http(gateway, f"GET /{SECRET} HTTP/1.1", f"Authorization: Bearer {SECRET}\x01", "Host: h")
            send_http(gateway, f"{PAYLOAD} {SECRET}", "Host: h")
            send_http(gateway, "POST /v1/devices/d/readings HTTP/1.1", f"Authorization: Basic {basic}", "Host: h")
            send_http(gateway, "GET / HTTP/1.1", f"Cookie: session={SECRET}; \x00", f"No colon {PAYLOAD}")
            wait_for(lambda: "kept as dead letters" in gateway.log, "the database's refusal")
            assert gateway.stop() == 0
            log = gateway.log
    for word in (SECRET, SECRET[::-1], token, basic, PAYLOAD):
        assert word not in log
    lines = [json.loads(line) for line in log.splitlines()]
    closes = {line["code"] for line in lines if line.get("device") == "d" and "session" in line}
    assert {1003, 1007, 4401} <= closes


def test_one_broken_device_does_not_fill_the_log(tmp_path: Path) -> None:
    times = 3 * MAX_LINES_PER_DEVICE
    with running_gateway(tmp_path, {"logging": {"format": "json"}}) as gateway:
        for _ in range(times):
            with connect(f"{gateway.ws}/v1/devices/broken/stream", compression=None) as socket:
                assert answer(socket)["type"] == "welcome"
                socket.send(b"binary")
                with contextlib.suppress(ConnectionClosed):
                    socket.recv(timeout=5)
        assert gateway.metric('gateway_disconnects_total{reason="binary"}') == times
        assert gateway.stop() == 0
        lines = [json.loads(line) for line in gateway.log.splitlines()]
    about = [line["message"] for line in lines if line.get("device") == "broken"]
    assert len(about) == MAX_LINES_PER_DEVICE + 1
    assert "further lines are left out and counted" in about[-1]
