from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gateway.devices.connection_limits import RESERVED, SHARE, UNLIMITED, Places, places, share, shortage


def test_the_soft_limit_is_raised_and_the_hard_one_counts() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 5000));"
        "from gateway.devices.connection_limits import places;"
        "print(places().devices, *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == [str(share(5000 - RESERVED).devices), "5000", "5000"]


@pytest.mark.parametrize("error", [ValueError("current limit exceeds maximum limit"), PermissionError(1, "no")])
def test_a_limit_that_cannot_be_raised_stops_no_start(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (3000, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert places() == share(3000 - RESERVED)
    assert "stays at 3000" in caplog.text


def test_a_limit_too_low_is_said_with_what_to_do() -> None:
    assert shortage(20_000, 20_000) is None
    assert shortage(18_976, 20_000) is None
    told = shortage(3976, 20_000)
    assert told is not None
    assert "room for 3976 devices" in told
    assert "LimitNOFILE=" in told


def test_it_is_below_the_limit_of_this_process() -> None:
    assert 0 < places().devices <= max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


@pytest.mark.parametrize("files", [-5, 1, 64, 4096, 130_048, 2_000_000])
def test_unauthenticated_and_pending_connections_have_a_part_of_the_places_and_devices_the_rest(files: int) -> None:
    found = share(files)
    assert min(found.devices, found.unauthenticated, found.pending_approval) >= 1
    assert max(found.unauthenticated, found.pending_approval) <= max(1, files // SHARE)
    assert found.devices + found.unauthenticated + found.pending_approval <= max(3, files)
    assert found.devices >= min(UNLIMITED, files - 2 * files // SHARE)


def test_without_a_limit_the_bounds_are_those_of_each_kind() -> None:
    assert share(10 * UNLIMITED) == Places()
