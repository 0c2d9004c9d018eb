"""Fixtures for every test: the real databases, one of each for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support import modes
from tests.support.servers import Influxd, VictoriaMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

hypothesis.settings.register_profile("suite", deadline=None)  # how long an example takes says how busy the machine is
hypothesis.settings.load_profile("suite")

SERVER_FIXTURES = {"influxd", "influxd_with_auth", "victoria_metrics"}


def pytest_report_header() -> str:
    """Say what the run is on."""
    return modes.description()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a database with ``server``."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """InfluxDB 1.x without authentication, shared: take a database of your own, ``influxd.create_database()``."""
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        yield server


@pytest.fixture(scope="session")
def influxd_with_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """InfluxDB 1.x that asks for user and password, shared."""
    with Influxd(tmp_path_factory.mktemp("influxd-auth"), auth=True) as server:
        yield server


@pytest.fixture(scope="session")
def victoria_metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    """VictoriaMetrics, shared: it has no databases, so tell your points by a tag or measurement of your own."""
    with VictoriaMetrics(tmp_path_factory.mktemp("victoria-metrics")) as server:
        yield server
