"""What of a command is no business of sockets; the endpoints are in ``test_downlink.py``."""

from __future__ import annotations

import tracemalloc

import orjson

from gateway.api.commands import _params

COMMANDS = 200


def test_a_command_that_waits_holds_no_more_than_its_parameters() -> None:
    body = orjson.dumps({"name": "x", "params": {"on": True}, "more": "x" * 60_000})
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [_params(orjson.loads(body)["params"]) for _ in range(COMMANDS)]
        taken = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert kept[0] == b'{"on":true}'
    assert taken < 200
