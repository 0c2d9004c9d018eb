from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

from gateway.cli import log_quota
from gateway.cli.log_quota import (
    ALL_DEVICES,
    MAX_LINES_OF_ALL_DEVICES,
    MAX_LINES_PER_DEVICE,
    MAX_LINES_PER_PLACE,
    WINDOW_SECONDS,
    LogQuota,
    Verdict,
)
from gateway.cli.logs import configure_logging
from gateway.config import Config
from tests.support.clock import Clock

if TYPE_CHECKING:
    import pytest


def test_a_device_has_its_lines_and_then_a_count() -> None:
    clock = Clock(0.0)
    quota = LogQuota(clock)
    verdicts = [quota.of_device("d") for _ in range(MAX_LINES_PER_DEVICE + 5)]
    assert verdicts[: MAX_LINES_PER_DEVICE - 1] == [Verdict.WRITE] * (MAX_LINES_PER_DEVICE - 1)
    assert verdicts[MAX_LINES_PER_DEVICE - 1 :] == [Verdict.WRITE_LAST] + [Verdict.LEAVE_OUT] * 5
    assert quota.of_device("e") is Verdict.WRITE
    assert quota.take_ended() == []
    clock.now = WINDOW_SECONDS
    assert quota.take_ended() == [("device d", 5)]
    assert quota.take_ended() == []
    assert quota.of_device("d") is Verdict.WRITE


def test_many_names_are_no_way_around_it_and_the_table_stays_small() -> None:
    clock = Clock(0.0)
    quota = LogQuota(clock)
    written = 0
    for number in range(5 * MAX_LINES_OF_ALL_DEVICES):
        quota.take_ended()
        written += quota.of_device(f"d{number}") is not Verdict.LEAVE_OUT
    assert written == MAX_LINES_OF_ALL_DEVICES
    assert len(quota._windows) <= log_quota.MAX_KEYS + 2
    clock.now = WINDOW_SECONDS
    left_out = [count for key, count in quota.take_ended() if key == ALL_DEVICES]
    assert left_out == [4 * MAX_LINES_OF_ALL_DEVICES]


def test_what_is_about_no_device_has_more_room() -> None:
    quota = LogQuota(Clock(0.0))
    verdicts = [quota.of_place("gateway.x line 7") for _ in range(MAX_LINES_PER_PLACE + 1)]
    assert verdicts.count(Verdict.LEAVE_OUT) == 1


def test_lines_carry_fields_and_end_with_a_word_about_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(LogQuota.__init__, "__defaults__", (clock,))
    configure_logging(Config(logging={"format": "json"}))  # type: ignore[arg-type]
    log = logging.getLogger("gateway.x")
    fields = {"device": "d", "session": "s1", "code": 4401}
    for _ in range(MAX_LINES_PER_DEVICE + 3):
        log.info("device %s: closing", "d", extra=fields)
    clock.now = WINDOW_SECONDS
    log.info("something else")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == MAX_LINES_PER_DEVICE + 3
    assert {name: lines[0][name] for name in fields} == fields
    assert "further lines are left out" in lines[MAX_LINES_PER_DEVICE]["message"]
    assert lines[-2]["message"] == "device d: 3 more lines were left out"
    assert lines[-2]["device"] == "d"
    assert "device" not in lines[-1]


def test_under_systemd_every_line_has_its_priority(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    configure_logging(Config())
    logging.getLogger("gateway.x").warning("failed", exc_info=ValueError("why"))
    first, *traceback = capfd.readouterr().err.splitlines()
    assert first.startswith("<4>")
    assert traceback == ["<4>    ValueError: why"]
