"""Requests to a database that never answers, at a real gateway."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from gateway.components import CLIENT_THREADS, MAX_WAITING_CALLS
from tests.support.gateway import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY = "/v1/query?device=dev&field=temp"
STOP_SECONDS = WAIT_SECONDS = 5


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway whose database takes connections and says nothing."""
    with socket.socket() as database:
        database.bind(("127.0.0.1", 0))
        database.listen(64)
        influxdb = {"url": f"http://127.0.0.1:{database.getsockname()[1]}", "api": "v1"}
        with running_gateway(tmp_path, {"sink": "influxdb", "influxdb": influxdb}) as running:
            yield running


@contextlib.contextmanager
def asking(gateway: RunningGateway, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(gateway.dial()) for _ in range(count)]
        for viewer in viewers:
            viewer.sendall(f"GET {QUERY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield viewers


def test_as_many_wait_as_may_and_a_stop_waits_for_none(silent: RunningGateway) -> None:
    with asking(silent, CLIENT_THREADS + MAX_WAITING_CALLS + 1) as viewers:
        sent_away, _, _ = select.select(viewers, [], [], WAIT_SECONDS)
        head, _, body = sent_away[0].recv(64 * 1024).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in head
        assert json.loads(body)["error"]["code"] == "busy"
        assert silent.request("/healthz")[0] == 200
        began = time.monotonic()
        assert silent.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
    assert "Traceback" not in silent.log


def test_a_client_that_leaves_makes_room(silent: RunningGateway) -> None:
    with asking(silent, CLIENT_THREADS + MAX_WAITING_CALLS + 1) as viewers:
        assert select.select(viewers, [], [], WAIT_SECONDS)[0]
    with asking(silent, MAX_WAITING_CALLS) as viewers:
        assert not select.select(viewers, [], [], 0.5)[0]
    assert "Traceback" not in silent.log


def test_a_question_ends_in_the_database_when_its_viewer_leaves(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(WAIT_SECONDS)
        influxdb = {"url": f"http://127.0.0.1:{database.getsockname()[1]}", "api": "v1"}
        with running_gateway(tmp_path, {"sink": "influxdb", "influxdb": influxdb}) as gateway:
            with asking(gateway, 1):
                asked, _ = database.accept()
                asked.settimeout(WAIT_SECONDS)
                assert asked.recv(64 * 1024).startswith(b"GET /query?")
            with asked:
                assert asked.recv(64 * 1024) == b"", "the connection is closed, long before the time-out"
            assert gateway.request("/healthz")[0] == 200
            assert "Traceback" not in gateway.log
