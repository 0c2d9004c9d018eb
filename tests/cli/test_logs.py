from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import pytest

from gateway.cli.logs import MASK, configure_logging
from gateway.config import Config

SECRET = 'pass"wörd/1&2+and more'


def configure(**section: Any) -> None:
    configure_logging(Config(logging=section, influxdb={"password": SECRET, "token": "t-0k3n"}))  # type: ignore[arg-type]


def log_failure(log: logging.Logger, words: str) -> None:
    try:
        raise ValueError(words)  # noqa: TRY301 - to have a traceback
    except ValueError:
        log.exception("failed")


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("gateway.app").info("listening on %s", "http://x")
    logging.getLogger("gateway.app").debug("not this")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" INFO     gateway.app: listening on http://x")


def test_a_line_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json", level="debug")
    log = logging.getLogger("gateway.x")
    log.debug("two\nlines")
    log_failure(log, "wrong")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("debug", "gateway.x", "two\nlines")
    assert first["time"].endswith("+00:00")
    assert "ValueError: wrong" in second["exception"]


@pytest.mark.parametrize("style", ["console", "json"])
def test_no_secret_is_written_whichever_code_logs_it(capsys: pytest.CaptureFixture[str], style: str) -> None:
    configure(format=style, level="debug")
    log = logging.getLogger("any.library")
    log.debug("GET /write?u=a&p=%s", "pass%22w%C3%B6rd%2F1%262%2Band%20more")
    log.debug("plain %s", SECRET)
    log.debug("headers %r", {"Authorization": "Bearer abc-DEF_123.x", "Sec-WebSocket-Protocol": "bearer.s3cr3t, x"})
    log_failure(log, f"Token t-0k3n and {SECRET}")
    written = capsys.readouterr().err
    for part in ("wörd", "w%C3%B6rd", "t-0k3n", "abc-DEF", "s3cr3t"):
        assert part not in written
    assert written.count(MASK) == 6
    assert "ValueError" in written
    assert "headers" in written


def test_a_configuration_without_secrets_masks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Config())
    logging.getLogger("gateway").info("a bearer of news")
    assert "a bearer" in capsys.readouterr().err


def test_requests_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("tornado.access").info("200 GET /")
    logging.getLogger("tornado.access").warning("404 GET /x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    written = capsys.readouterr().err
    assert "200" not in written
    assert "404" in written
    assert "careful" in written


FORGED = "2026-01-01 00:00:00,000 CRITICAL gateway: forged"
HOSTILE = f"\r\n{FORGED}\x1b[2J\x00\x85\u2028\u202e\x9b"


def test_what_is_logged_makes_no_line_of_its_own_and_gives_a_terminal_no_orders(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure()
    log = logging.getLogger("gateway.x")
    log.warning("device %s said %s", f"a{HOSTILE}", HOSTILE)
    log_failure(log, HOSTILE)
    written = capsys.readouterr().err
    first, *others = written.split("\n")[:-1]
    assert r"device a\r\n2026-01-01" in first
    assert r"\x1b[2J\x00\x85\u2028\u202e\x9b" in first
    assert sum(not line.startswith("    ") for line in others) == 1, "but for the line that says failed"
    assert not any(line.startswith(FORGED) for line in others)
    assert set("\r\x1b\x00\x85\u2028\u202e\x9b").isdisjoint(written)


def test_nor_in_a_log_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    configure(format="json")
    logging.getLogger("gateway.x").warning("%s", HOSTILE, extra={"device": HOSTILE})
    log_failure(logging.getLogger("gateway.x"), HOSTILE)
    written = capsys.readouterr().err
    assert written.replace("\n", "").isprintable()
    first, second = map(json.loads, written.splitlines())
    assert (first["message"], first["device"]) == (HOSTILE, HOSTILE)
    assert HOSTILE in second["exception"]
