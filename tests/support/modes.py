"""What a run of the tests is on, chosen by two environment variables.

``GATEWAY_TEST_LOOP``: ``asyncio`` hides uvloop from the tests and from every process that they start, as if it were not
installed; ``uvloop`` insists on it; unset takes what is there. Tests of the receive path run on every loop they can get
in any case.

``GATEWAY_TEST_TLS=1``: every gateway that `tests.support.gateway` starts speaks TLS only, with a certificate that the
children's TLS libraries are told to trust.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import ssl
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.certificate import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESSES = ("127.0.0.1", "10.213.7.1")
"""Where gateways of the tests listen; the second is a network namespace's end."""
TLS = os.environ.get("GATEWAY_TEST_TLS", "0") not in {"", "0"}
SCHEMES = ("https", "wss") if TLS else ("http", "ws")
_WANTED = os.environ.get("GATEWAY_TEST_LOOP", "")
_HIDING = str(Path(__file__).with_name("without_uvloop"))

_loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if _WANTED == "asyncio":
    assert "uvloop" not in sys.modules, "too late to hide uvloop"
    sys.path.insert(0, _HIDING)
    os.environ["PYTHONPATH"] = os.pathsep.join([_HIDING, *filter(None, [os.environ.get("PYTHONPATH")])])
with contextlib.suppress(ImportError):
    import uvloop

    _loops["uvloop"] = uvloop.new_event_loop
assert _WANTED in {"", *_loops}, f"GATEWAY_TEST_LOOP={_WANTED} is not to be had"

LOOPS = tuple(_loops)
"""The names of the event loops that this run can use."""
FASTEST = LOOPS[-1]
"""The one that the gateway takes."""


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A loop of one of `LOOPS`."""
    return _loops[name]()


@cache
def certificate() -> tuple[Path, Path]:
    """The certificate of this run and its key; this process and its children trust it from now on."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-tests-certificate-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    pair = make_certificate(directory, *ADDRESSES)
    os.environ["SSL_CERT_FILE"] = os.environ["NODE_EXTRA_CA_CERTS"] = str(pair[0])
    ssl.create_default_context = _client_context
    return pair


def _client_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
    """As the original, without TLS 1.3.

    Its tickets come right after the handshake, when a client of two threads (websockets has such) may be writing its
    first request. Before Python 3.13 one TLS connection cannot do both at once: one request in 300 was lost.
    """
    context = _default_context(*arguments, **options)
    if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


_default_context = ssl.create_default_context


def description() -> str:
    """For the head of a run's output."""
    return f"gateway: on {FASTEST}, devices over {'TLS' if TLS else 'plain TCP'} (GATEWAY_TEST_LOOP, GATEWAY_TEST_TLS)"
