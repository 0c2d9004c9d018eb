"""The gateway's CPU time, from its /metrics, if they are open to the simulator."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

if TYPE_CHECKING:
    import ssl

_CPU = re.compile(rb"^process_cpu_seconds_total\s+([0-9.eE+-]+)", re.MULTILINE)
_TIMEOUT = 3.0


async def gateway_cpu_seconds(url: str, tls: ssl.SSLContext | None) -> float | None:
    """CPU seconds that the gateway's process has used so far; None if /metrics does not say."""
    return await asyncio.to_thread(_read, _metrics_url(url), tls)


def _metrics_url(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(({"ws": "http", "wss": "https"}[parts.scheme], parts.netloc, f"{parts.path}/metrics", "", ""))


def _read(url: str, tls: ssl.SSLContext | None) -> float | None:
    try:
        with urlopen(url, timeout=_TIMEOUT, context=tls) as answer:  # noqa: S310 - http(s) by construction
            found = _CPU.search(answer.read())
    except HTTPError as refused:
        refused.close()  # it holds the connection
        return None
    except OSError:
        return None
    return float(found[1]) if found else None
