"""Servers of `StreamHandler` on every loop and transport it has to work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificate import make_certificate
from tests.support.modes import LOOPS
from tests.support.streams import Recorder, StreamServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.websocket.handler import StreamHandler

    Serve = Callable[..., StreamServer]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=[*LOOPS, *(f"{loop}-tls" for loop in LOOPS)])
def serve(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Serve:
    """Makes a server for a handler class and application settings, once for each loop, plain and over TLS."""
    loop, _, tls = request.param.partition("-")

    def make(handler: type[StreamHandler] = Recorder, **settings: Any) -> StreamServer:
        return StreamServer(handler, loop=loop, certificate=certificate if tls else None, **settings)

    return make
