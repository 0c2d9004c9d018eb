"""What the machine has to give, for a real gateway: room on its disk, open files."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from tests.support.disk import small_disk
from tests.support.gateway import RunningGateway, running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def state(gateway: RunningGateway) -> tuple[int, Any]:
    return gateway.request("/readyz")


def test_a_disk_that_others_fill_stops_readings_before_it_is_full_and_goes_on_by_itself(tmp_path: Path) -> None:
    spool = {"min_free": "16MiB", "max_bytes": "4MiB", "segment_bytes": "64KiB"}
    with small_disk(tmp_path / "disk", "40m") as disk, running_gateway(disk / "gateway", {"spool": spool}) as gateway:
        assert gateway.request("/v1/devices/d/readings", body=b'{"a":1}')[0] == 200
        (disk / "others").write_bytes(bytes(28 * 1024**2))
        _, found = wait_for(lambda: (r := state(gateway))[0] == 503 and r, "the gateway to stop taking readings")
        assert "below spool.min_free (16 MiB)" in found["blocking"][0]
        assert gateway.request("/v1/devices/d/readings", body=b'{"a":2}')[0] == 503
        assert gateway.metric("gateway_ready") == 0
        assert 0 < gateway.metric("gateway_disk_free_bytes") < 16 * 1024**2
        (disk / "others").unlink()
        wait_for(lambda: state(gateway)[0] == 200, "the gateway to take readings again")
        assert gateway.request("/v1/devices/d/readings", body=b'{"a":3}')[0] == 200
        assert gateway.metric("gateway_ready") == 1
        assert gateway.stop() == 0


def test_a_limit_of_files_too_low_for_the_devices_is_said(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running_gateway(tmp_path, {"server": {"max_connections": 1_000_000}}) as gateway:
        found = state(gateway)[1]
        if hard == resource.RLIM_INFINITY or hard > 900_000:
            assert found["warnings"] == []
        else:
            assert "server.max_connections is 1000000" in found["warnings"][0]
            assert "LimitNOFILE=" in gateway.log
            assert gateway.metric("gateway_connections_limit") < hard
