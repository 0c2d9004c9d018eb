"""The fixtures of servers: in CI, a missing server fails the test."""

from __future__ import annotations

import pytest

from tests.support.servers import binary


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_server_fails_in_ci_and_is_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install influxdb"):
        binary("no-such-influxd", "influxdb")


def test_an_installed_server_is_found() -> None:
    assert binary("sh", "dash").endswith("/sh")
