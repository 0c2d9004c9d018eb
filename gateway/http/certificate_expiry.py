"""Warns of certificates that are about to expire, while there is time to renew them.

Rules that hold here:

* The files are read at the start and with each reload, as TLS reads them: the warnings concern certificates in use.
* An expired certificate stops nothing here. A warning is logged at once and then once a day; `/readyz` shows it, too.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from gateway.config.tls import certificate_files, certificates_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gateway.config import Config

log = logging.getLogger(__name__)

DAY = 86_400
NOTICE = 14 * DAY
"""Seconds before the end of a certificate at which the warnings begin."""
_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags (X.690, section 8.1.2): of the version in a certificate, and of a time with two digits for the year."""


class CertificateExpiry:
    """``ends`` is when the first certificate of each file ends, in seconds since 1970."""

    def __init__(
        self,
        ends: Mapping[Path, float] | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends = dict(ends or {})
        self._wall = wall
        self._monotonic = monotonic
        self._log_at = -inf
        """When the warnings are due again, on the monotonic clock."""

    def renew(self, ends: Mapping[Path, float]) -> None:
        """Watch these files from now on, and log their warnings at the next `log_warnings`."""
        self._ends = dict(ends)
        self._log_at = -inf

    def warnings(self) -> Iterator[str]:
        """One text for each file whose first certificate ends soon or has ended."""
        now = self._wall()
        for path, end in self._ends.items():
            if end - now < NOTICE:
                when = datetime.fromtimestamp(end, UTC).isoformat().replace("+00:00", "Z")
                yield f"a certificate in {path} {'ends' if end > now else 'ended'} at {when}"

    def log_warnings(self) -> None:
        """Log the warnings, unless that was done within a day."""
        now = self._monotonic()
        if now >= self._log_at:
            self._log_at = now + DAY
            for warning in self.warnings():
                log.warning("%s", warning)


def read_ends(config: Config) -> dict[Path, float]:
    """When the first certificate ends in each file that ``config`` names. Unreadable files are logged. Blocks."""
    ends: dict[Path, float] = {}
    for path in certificate_files(config):
        try:
            ends[path] = min(map(not_after, certificates_in(path)), default=inf)
        except (OSError, ValueError, IndexError) as error:
            log.warning("when the certificates in %s end is not known: %s", path, error)
    return ends


def not_after(certificate: bytes) -> float:
    """When a certificate (DER) ends, in seconds since 1970 (RFC 5280, section 4.1).

    Raises:
        ValueError, IndexError: it is no certificate.
    """
    _, at, _ = _element(certificate, 0)
    _, at, _ = _element(certificate, at)
    tag, _, after = _element(certificate, at)
    if tag == _VERSION:
        at = after
    for _ in ("serial number", "signature algorithm", "issuer"):
        _, _, at = _element(certificate, at)
    _, at, _ = _element(certificate, at)
    _, _, at = _element(certificate, at)  # the beginning
    tag, start, end = _element(certificate, at)
    text = certificate[start:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the contents of the element at ``at`` (X.690, section 8.1)."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        length, start = int.from_bytes(der[start : start + digits]), start + digits
    return tag, start, start + length
