"""A page of the list of devices, sorted a few devices at a time; the endpoints are tested in test_watching.py."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from gateway.devices import device_list as module
from gateway.devices.device_list import DeviceIds, DeviceList
from gateway.devices.fleet import Fleet
from gateway.ledger import Entry, Ledger

if TYPE_CHECKING:
    from gateway.devices.device_view import DeviceView

IDS = sorted(f"d{number}" for number in range(100))


def last_data(view: DeviceView) -> int:
    return view.last_data_ns


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("start", "end"), [(0, 10), (37, 60), (95, 200), (300, 310)])
def test_a_page_of_many_runs_is_that_of_the_whole_sorted(
    monkeypatch: pytest.MonkeyPatch, start: int, end: int, *, descending: bool
) -> None:
    monkeypatch.setattr(module, "STEP", 7)
    fleet, random = Fleet(Ledger()), Random(1)
    for device in IDS[10:]:
        fleet.show(Entry(device, lines=1, arrived_ns=random.randrange(1, 20)))
    found = asyncio.run(DeviceList(DeviceIds(), fleet)._sorted(IDS, last_data, start, end, descending=descending))
    whole = sorted(IDS, key=lambda device: last_data(fleet.look(device)), reverse=descending)
    assert found == whole[start:end]
