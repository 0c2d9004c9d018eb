from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Commands on an empty directory, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands that serve set up logging for their process, which here is that of the tests."""
    root, access = logging.getLogger(), logging.getLogger("tornado.access")
    level, handlers, access_level = root.level, list(root.handlers), access.level
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    root.handlers[:] = handlers
    access.setLevel(access_level)
