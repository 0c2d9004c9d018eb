from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.gateway import running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.gateway import RunningGateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One gateway on SQLite for a module's tests, each of which uses device ids of its own."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running
