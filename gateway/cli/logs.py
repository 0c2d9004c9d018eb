"""Logging of a serving gateway: to standard error, for people or for machines.

Rules that hold here:

* No secret of the configuration and no bearer token is written, whoever logs it: what is written is searched for them
  last, after arguments and tracebacks have become text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from gateway.config import Config

MASK = "**********"
_BEARER = re.compile(r"(?i)\b(bearer[ .])[A-Za-z0-9._~+/=-]+")


SHORTEST_MASKED = 5


class _Console(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Discreet(logging.Formatter):
    """Another formatter's text without secrets."""

    def __init__(self, inner: logging.Formatter, secrets: set[str]) -> None:
        super().__init__()
        self._inner = inner
        # The longest first, so that a secret that contains another goes whole.
        forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, forms))) if forms else None

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record)
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return _BEARER.sub(rf"\1{MASK}", text)


def _forms(secret: str) -> set[str]:
    """How a secret can look in a log: as it is, in a URL, in JSON, in Python.

    A very short one, such as a placeholder for a database that asks for none, would only be masked out of other words.
    """
    if len(secret) < SHORTEST_MASKED:
        return {repr(secret)}
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)}


def configure_logging(config: Config) -> None:
    """Send every log record of this process to standard error, as ``config.logging`` says."""
    secrets = (config.auth.admin_token, config.auth.viewer_token, config.influxdb.token, config.influxdb.password)
    inner = _Json() if config.logging.format == "json" else _Console()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet(inner, {secret.get_secret_value() for secret in secrets if secret} - {""}))
    logging.basicConfig(level=config.logging.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # One line per request would drown everything else; /metrics counts them.
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
