"""slowhttptest, all its attacks at once; `python -m benchmarks.slowhttp` measures what it costs others."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.slowhttp import MODES, PROGRAM, command
from tests.support.gateway import running_gateway, wait_for
from tests.support.modes import TLS
from tests.support.servers import binary
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = 30
CONNECTIONS = 300
SECONDS = 3


@pytest.mark.server
@pytest.mark.skipif(TLS, reason="slowhttptest does not take a certificate of its own making")
def test_devices_get_their_acks_while_every_way_of_being_slow_is_tried(tmp_path: Path) -> None:
    binary(PROGRAM, PROGRAM)
    with running_gateway(tmp_path) as gateway:
        options = ("--url", gateway.ws, "--devices", str(DEVICES), "--interval", "200ms", "--quiet")
        with simulate(tmp_path, "run", *options) as simulation:
            wait_for(lambda: gateway.metric("gateway_connections") == DEVICES, "the devices")
            port = int(gateway.url.rpartition(":")[2])
            attacks = [
                subprocess.Popen(command(mode, port, (CONNECTIONS, CONNECTIONS), SECONDS), stdout=subprocess.DEVNULL)
                for mode in MODES
            ]
            assert [attack.wait(60) for attack in attacks] == [0] * len(MODES)
            assert gateway.request("/healthz")[0] == 200
            simulation.end_readings()
            summary = simulation.finish(60)["summary"]
        wait_for(lambda: gateway.pending() == 0, "everything to be delivered")
        verified = verify(simulation.report, f"sqlite:{tmp_path / 'data.db'}")
    assert summary["acked"] == summary["sent"] > DEVICES
    assert (summary["connects"], summary["outstanding"]) == (DEVICES, 0)
    assert (verified["missing"], verified["stored"]) == (0, summary["acked"])
