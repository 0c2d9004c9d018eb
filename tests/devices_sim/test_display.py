from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from devices_sim.display import Progress, show_summary
from devices_sim.tally import Tally

if TYPE_CHECKING:
    import pytest


def tally() -> Tally:
    found = Tally()
    found.sent, found.acked, found.refused, found.connected = 120, 100, 3, 2
    found.latency.add(0.004)
    return found


def test_without_a_terminal_progress_is_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3) as progress:
        for second in range(1, 12):
            progress.progress(tally(), float(second), "")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "5 s  connected 2/3  sent 120  acked 100 (20/s)" in lines[0], "since the last line"
    assert "acked 100 (0/s)" in lines[1]
    assert "refused 3" in lines[0]
    assert "p99 4.0 ms" in lines[0]


def test_trouble_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3) as progress:
        progress.progress(Tally(), 5.0, "[Errno 111] refused")
    assert "[Errno 111] refused" in capsys.readouterr().err


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, quiet=True) as progress:
        progress.progress(tally(), 5.0, "trouble")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    monkeypatch.setattr("devices_sim.display.Console", lambda **_: console)
    with Progress(3) as progress:
        progress.progress(tally(), 1.0, "")
        progress.progress(tally(), 2.0, "")
    assert screen.getvalue().count("connected 2/3") >= 2
    assert "\x1b[" in screen.getvalue()


def summary(**over: object) -> dict[str, object]:
    extra = {
        "outstanding": 0, "never_sent": 0, "stopped_because": [], "last_failure": "", "awaiting_approval": 0,
        "cpu_us_per_reading": {"simulator": 21.04, "gateway": 15.5},
    }  # fmt: skip
    return {**tally().summary(), "connects": 3, **extra, **over}


def shown(found: dict[str, object]) -> str:
    screen = io.StringIO()
    show_summary(found, Console(file=screen, width=100))
    return screen.getvalue()


def test_the_summary_shows_what_counts() -> None:
    text = shown(summary(throttled={"spool_bytes": 2, "max_unacked": 1}, closes={"1012": 4}))
    for line in ("sent", "acked", "refused", "outstanding", "resent", "reconnects", "CPU per reading, gateway"):
        assert line in text
    assert "max_unacked 1, spool_bytes 2" in text
    assert "1012 4" in text
    assert "15.5 us" in text
    assert "never sent" not in text, "what did not happen is left out"


def test_the_summary_says_what_went_wrong() -> None:
    text = shown(summary(stopped_because=["credentials [4401]"], violation_texts=["d: acknowledges 7"], never_sent=4))
    assert "credentials [4401]" in text
    assert "acknowledges 7" in text
    assert "never sent" in text
    assert "approve" not in text
    assert "no operator approved: 4. While they wait, `gateway devices list --pending`" in shown(
        summary(awaiting_approval=4)
    )
    assert "no device ever connected: refused" in shown(summary(connects=0, last_failure="refused"))


def test_what_the_gateway_does_not_tell() -> None:
    assert "not available" in shown(summary(cpu_us_per_reading={"simulator": 1.0, "gateway": None}))
