from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Commands on an empty directory, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path)
