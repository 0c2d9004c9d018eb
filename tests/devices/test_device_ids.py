from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import pytest

from gateway.devices.device_list import MAX_INSERTED, SEARCH_STEP, DeviceIds

if TYPE_CHECKING:
    from collections.abc import KeysView


@pytest.mark.parametrize("count", [1, MAX_INSERTED, MAX_INSERTED + 1, 10 * MAX_INSERTED])
def test_ids_of_all_sources_are_in_order_once_and_as_they_come(count: int) -> None:
    chance = random.Random(count)
    registered: dict[str, int] = {}
    heard: dict[str, int] = {}
    directory = DeviceIds(registered.keys, heard.keys)
    assert directory.ids() == []
    for _ in range(20):
        for source in (registered, heard):
            source.update(dict.fromkeys([f"d{chance.randrange(5 * count)}" for _ in range(count)], 0))
        assert directory.ids() == sorted({*registered, *heard})


def test_a_list_that_was_given_out_stays_as_it_is() -> None:
    heard = {"b": 1}
    directory = DeviceIds(heard.keys)
    before = directory.ids()
    heard["a"] = 1
    assert (before, directory.ids()) == (["b"], ["a", "b"])


def test_a_mapping_that_was_replaced_by_a_longer_one_is_followed() -> None:
    mappings = [{"b": 1}]

    def newest() -> KeysView[str]:
        return mappings[-1].keys()

    directory = DeviceIds(newest)
    directory.ids()
    mappings.append({"b": 1, "a": 1})
    assert directory.ids() == ["a", "b"]


def test_a_search_finds_parts_in_any_case_and_lets_others_have_their_turn() -> None:
    heard = dict.fromkeys([f"Kiln-{number:06d}" for number in range(3 * SEARCH_STEP)], 0)
    directory = DeviceIds(heard.keys)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(others())
        assert await directory.search("kiLN-00123") == [f"Kiln-00123{number}" for number in range(10)]
        assert turns >= 3
        assert await directory.search("") == directory.ids()
        assert await directory.search("nothing") == []
        other.cancel()

    asyncio.run(main())


def test_a_page_of_many_devices_costs_no_look_at_all_of_them() -> None:
    heard = dict.fromkeys([f"d{number}" for number in range(200_000)], 0)
    directory = DeviceIds(heard.keys)
    directory.ids()
    began = time.thread_time()
    for _ in range(1000):
        directory.ids()
    assert time.thread_time() - began < 0.5
