"""SIGTERM: devices are told, nothing is lost, and what cannot be waited for is not waited for."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.gateway import running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path

HANDSHAKE = (
    "GET /v1/devices/{}/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def last_presence(directory: Path) -> dict[str, tuple[int, str]]:
    """(connected, reason) of each device's last change, from the database."""
    with contextlib.closing(sqlite3.connect(directory / "data.db")) as database:
        rows = database.execute(
            "select device, field, value, max(time_ns) from readings where measurement = 'device_status'"
            " group by device, field"
        ).fetchall()
    values = {(device, field): value for device, field, value, _ in rows}
    return {device: (values[device, "connected"], values[device, "reason"]) for device, _ in values}


def test_a_stop_tells_devices_and_cuts_those_that_do_not_listen(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        with connect(f"{gateway.ws}/v1/devices/polite/stream") as polite, gateway.dial() as deaf:
            polite.recv()
            deaf.sendall(HANDSHAKE.format("deaf").encode())
            wait_for(lambda: gateway.request("/v1/devices")[1]["total"] == 2, "both devices")
            polite.send(json.dumps({"seq": 1, "values": {"a": 1}}))
            gateway.process.terminate()
            heard = []
            with pytest.raises(ConnectionClosed) as ending:
                while True:
                    heard.append(json.loads(polite.recv(timeout=20)))
            assert ending.value.rcvd is not None
            assert ending.value.rcvd.code == 1012
            assert gateway.process.wait(20) == 0
        assert "Traceback" not in gateway.log
    with running_gateway(tmp_path) as again:
        acked = {"type": "ack", "seq": 1} in heard
        assert again.ledger("polite")["received"] == acked
        gone = {"polite": (0, "restart"), "deaf": (0, "restart")}
        wait_for(lambda: last_presence(tmp_path) == gone, "what was left in the spool to be delivered")


def test_newcomers_on_an_old_connection_are_refused_while_it_stops(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway, gateway.dial() as deaf:
        deaf.sendall(HANDSHAKE.format("deaf").encode())
        wait_for(lambda: gateway.request("/v1/devices")[1]["total"] == 1, "the device that makes the stop wait")
        with contextlib.closing(gateway.keep_alive()) as kept:
            kept.request("GET", "/healthz")
            kept.getresponse().read()
            gateway.process.terminate()
            wait_for(lambda: "stopping" in gateway.log, "the stop to begin")
            kept.request("POST", "/v1/devices/late/readings", body=b'{"a":1}')
            answer = kept.getresponse()
            assert (answer.status, json.loads(answer.read())["error"]["code"]) == (503, "restarting")
        assert gateway.process.wait(20) == 0
