from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import browser
from tests.support.gateway import running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

    from tests.support.gateway import RunningGateway


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests of the page; each leaves it without cookies."""
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.set_window_size(1280, 800)
        yield driver


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One gateway on SQLite for a module's tests, each of which uses device ids of its own."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running
