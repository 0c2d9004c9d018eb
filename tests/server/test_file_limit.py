from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gateway.server.file_limit import RESERVED, devices_allowed, shortage


def test_the_soft_limit_is_raised_and_the_hard_one_counts() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 5000));"
        "from gateway.server.file_limit import devices_allowed;"
        "print(devices_allowed(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == [str(5000 - RESERVED), "5000", "5000"]


@pytest.mark.parametrize("error", [ValueError("current limit exceeds maximum limit"), PermissionError(1, "no")])
def test_a_limit_that_cannot_be_raised_stops_no_start(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (3000, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert devices_allowed() == 3000 - RESERVED
    assert "stays at 3000" in caplog.text


def test_a_limit_too_low_is_said_with_what_to_do() -> None:
    assert shortage(20_000, 20_000) is None
    assert shortage(18_976, 20_000) is None
    told = shortage(3976, 20_000)
    assert told is not None
    assert "room for 3976 devices" in told
    assert "LimitNOFILE=" in told


def test_it_is_below_the_limit_of_this_process() -> None:
    assert 0 < devices_allowed() <= max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
