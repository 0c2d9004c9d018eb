"""A few attackers do each attack for a moment; `python -m tests.defence` has 5,000 do it for a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.defence.__main__ import MAX_GROWTH as MAX_GROWTH_OF_5000
from tests.defence.__main__ import complaints, siege
from tests.defence.attacks import ATTACKS
from tests.support.modes import TLS

if TYPE_CHECKING:
    from pathlib import Path

GOOD = 20
SOCKETS = 80
SECONDS = 0.5
MAX_GROWTH = 256 * 1024**2
"""What 80 devices that went over can cost at the worst: chiefly their series, which SQLite's sink remembers."""


@pytest.mark.slow
@pytest.mark.skipif(TLS, reason="attackers speak plain TCP")
def test_nothing_is_lost_for_others_while_each_attack_is_tried(tmp_path: Path) -> None:
    found = siege(tmp_path, list(ATTACKS), good=GOOD, sockets=SOCKETS, seconds=SECONDS)
    summary = found["summary"]
    assert summary["acked"] == summary["sent"] > GOOD
    assert (summary["refused"], summary["violations"], summary["outstanding"]) == (0, 0, 0)
    assert complaints(found, GOOD) == []
    assert found["verified"]["missing"] == found["verified"]["wrong"] == found["verified"]["doubled"] == 0
    assert found["verified"]["stored"] == summary["acked"]
    assert found["grown"] < MAX_GROWTH
    outcomes = {outcome.name: outcome for outcome, _ in found["outcomes"]}
    assert all(outcome.made for outcome in outcomes.values())


def test_a_siege_fails_when_devices_come_again_or_the_gateway_grows_beyond_its_bound() -> None:
    fair = {"summary": {"connects": 200}, "grown": MAX_GROWTH_OF_5000}
    assert complaints(fair, 200) == []
    assert complaints(fair | {"grown": MAX_GROWTH_OF_5000 + 1}, 200) == [
        "the gateway grew by 2048 MiB, which may be 2048"
    ]
    again = {"summary": {"connects": 201}, "grown": 0}
    assert complaints(again, 200) == ["200 good devices connected 201 times"]
