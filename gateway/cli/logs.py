"""The log of a running gateway: on standard error, for people or for machines.

Rules that hold here:

* No secret of the configuration and no bearer token is written. The finished text, with arguments and tracebacks, is
  searched for them. A secret that a reload replaced is still masked.
* What devices send is logged at level debug only, also where a database's error text quotes it.
* Logged text cannot forge a line or control a terminal: control characters are escaped, and all lines after the first
  one, such as a traceback, are indented.
* A line about a device carries it as a field (``extra={"device": ...}``), by which lines are counted (`log_quota`).
* Under systemd each line begins with its priority (sd-daemon(3)), so that ``journalctl -p warning`` works.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

from gateway.cli.log_quota import ALL_DEVICES, WINDOW_SECONDS, LogQuota, Verdict

if TYPE_CHECKING:
    from gateway.config import Config

MASK = "**********"
_BEARER = re.compile(r"(?i)\b(bearer[ .])[A-Za-z0-9._~+/=-]+")


MIN_MASKED_LENGTH = 5
# C0, DEL and C1, the separators that some viewers take for newlines, and marks that turn the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CONTROL_BUT_NEWLINE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_INDENT = "    "
FIELDS = "device", "session", "code"
"""What a record may carry beside its text; ``code`` is that of a close or of a refusal."""
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Console(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        record.message = _harmless(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        first, *more = _CONTROL_BUT_NEWLINE.sub(_escaped, super().format(record)).split("\n")
        return "\n".join([first, *(_INDENT + line for line in more)])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _CONTROL.sub(_escaped_for_json, json.dumps(line, ensure_ascii=False))


class _Discreet(logging.Formatter):
    """Another formatter's text without secrets."""

    def __init__(self, inner: logging.Formatter, secrets: set[str], *, priorities: bool = False) -> None:
        super().__init__()
        self._inner = inner
        self._priorities = priorities
        # The longest first, so that a secret that contains another goes whole.
        forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, forms))) if forms else None

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record)
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        text = _BEARER.sub(rf"\1{MASK}", text)
        if not self._priorities:
            return text
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return prefix + text.replace("\n", "\n" + prefix)


def _harmless(text: str) -> str:
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _escaped_for_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _forms(secret: str) -> set[str]:
    """How a secret can look in a log: as it is, in a URL, in JSON, in Python.

    A very short secret, such as a placeholder for a database without authentication, is masked only in quotes:
    otherwise it would be masked inside ordinary words.
    """
    if len(secret) < MIN_MASKED_LENGTH:
        return {repr(secret)}
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)}


def _quotes_no_client(record: logging.LogRecord) -> bool:
    """Tornado logs each bad request with its own text, which may have a token or a cookie: leave that out.

    Its lines about TLS are kept; they name a certificate or a version and quote nothing of the client.
    """
    told = record.levelno > logging.WARNING or str(record.msg).startswith("SSL Error")
    return told or logging.getLogger().level <= logging.DEBUG


class _Frugal(logging.StreamHandler[TextIO]):
    """Leaves out lines beyond the quota, and says how many."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._quota = LogQuota()

    def emit(self, record: logging.LogRecord) -> None:
        for key, count in self._quota.take_ended():
            self._tell(f"{key}: {count} more lines were left out", key)
        device = getattr(record, "device", None)
        if device is None:
            key = f"{record.name} line {record.lineno}"
            verdict = self._quota.of_place(key)
        else:
            key = f"device {device}"
            verdict = self._quota.of_device(device)
        if verdict is Verdict.LEAVE_OUT:
            return
        super().emit(record)
        if verdict is Verdict.WRITE_LAST:
            self._tell(
                f"{key}: further lines are left out and counted, for up to {WINDOW_SECONDS / 60:.0f} minutes", key
            )

    def _tell(self, text: str, key: str) -> None:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        if key.startswith("device ") and key != ALL_DEVICES:
            record.device = key.removeprefix("device ")
        super().emit(record)


class Logs:
    """Every log record of this process goes to standard error, as ``config.logging`` says."""

    def __init__(self, config: Config) -> None:
        self._handler = _Frugal(sys.stderr)
        self._secrets: set[str] = set()
        """Texts that are masked in every line."""
        logging.basicConfig(handlers=[self._handler], force=True)
        logging.captureWarnings(capture=True)
        # One line per request would drown everything else; /metrics counts them.
        logging.getLogger("tornado.access").setLevel(logging.WARNING)
        logging.getLogger("tornado.general").addFilter(_quotes_no_client)
        self.change(config)

    def change(self, config: Config) -> None:
        """Use this configuration from now on."""
        secrets = (config.auth.admin_token, config.auth.viewer_token, config.influxdb.token, config.influxdb.password)
        self._secrets |= {secret.get_secret_value() for secret in secrets if secret} - {""}
        inner = _Json() if config.logging.format == "json" else _Console()
        self._handler.setFormatter(_Discreet(inner, self._secrets, priorities=_to_journal(sys.stderr)))
        logging.getLogger().setLevel(config.logging.level.upper())


def _to_journal(stream: TextIO) -> bool:
    """Whether systemd says that this very stream goes to its journal (systemd.exec(5), ``$JOURNAL_STREAM``)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure_logging(config: Config) -> Logs:
    """Set up the log of this process; the returned object can change it."""
    return Logs(config)
