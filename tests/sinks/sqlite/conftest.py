"""A SQLite database in a temporary directory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from gateway.sinks.sqlite import SqliteSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.fixture
def open_sink(path: Path) -> Iterator[Callable[..., SqliteSink]]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> SqliteSink:
            sink = SqliteSink(path, **options)
            stack.callback(sink.close)
            return sink

        yield make


@pytest.fixture
def sink(open_sink: Callable[..., SqliteSink]) -> SqliteSink:
    return open_sink()
