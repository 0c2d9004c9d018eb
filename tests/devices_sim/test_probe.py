from __future__ import annotations

import asyncio

import pytest

from devices_sim.probe import gateway_cpu_seconds
from tests.support.scripted import Reply, ScriptedServer

METRICS = b"""# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
process_open_fds 7.0
"""


def ask(url: str) -> float | None:
    return asyncio.run(gateway_cpu_seconds(url.replace("http", "ws", 1), None))


def test_the_process_says_what_it_used() -> None:
    with ScriptedServer(Reply(200, body=METRICS)) as server:
        assert ask(f"{server.url}/base") == 12.5
        assert server.requests[0].path == "/base/metrics"


@pytest.mark.parametrize(
    "reply", [Reply(200, body=b"process_open_fds 7.0\n"), Reply(403, body=b"no"), Reply(404), Reply(cut=True)]
)
def test_it_may_not_say(reply: Reply) -> None:
    with ScriptedServer(reply) as server:
        assert ask(server.url) is None


def test_there_may_be_no_gateway() -> None:
    assert ask("http://127.0.0.1:9") is None
