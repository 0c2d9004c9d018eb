"""The live feed of a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from gateway.devices.connections import CLOSE_GRACE
from tests.support.device import answer, device
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TS = 1_700_000_000_000
FLEET = 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def post(gateway: RunningGateway, name: str, message: object) -> None:
    assert gateway.request(f"/v1/devices/{name}/readings", body=json.dumps(message).encode())[0] == 200


def test_a_viewer_hears_of_connections_readings_and_disconnects(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?device=d1") as viewer:
        assert "Content-Type: text/event-stream" in viewer.head
        assert viewer.until("hello").data["now"] > TS
        with device(gateway, "d1") as socket:
            came = viewer.until("presence").data
            assert (came["device"], came["state"], came["reason"]) == ("d1", "live", "connected")
            socket.send(f'{{"seq":1,"ts":{TS},"values":{{"temp":21.5,"where":"attic"}}}}')
            seen = viewer.until("readings")
        shown = seen.data["devices"]["d1"]
        assert (shown["time"], shown["latest"]) == (TS, {"temp": 21.5, "where": "attic"})
        assert shown["last_data"] >= came["since"] > TS
        assert (seen.data["conflated"], set(seen.data["devices"])) == (False, {"d1"})
        left = viewer.until("presence").data
        assert (left["state"], left["reason"]) == ("offline", gateway.device("d1")["state_reason"])


def test_a_viewer_hears_that_data_comes_by_request(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?device=hook") as viewer:
        viewer.until("hello")
        post(gateway, "hook", {"temp": 1})
        assert viewer.device("hook")["by_request"] is True
        found = gateway.device("hook")
        assert (found["state"], found["connected"], found["by_request"]) == ("offline", False, True)
        viewer.until("presence")  # that it is known
        with device(gateway, "hook") as socket:
            came = viewer.until("presence").data
            assert (came["state"], came["by_request"]) == ("live", False)
            socket.send('{"temp":2}')
            assert "by_request" not in viewer.device("hook")
        assert viewer.until("presence").data["by_request"] is False
        assert gateway.device("hook")["by_request"] is False
        post(gateway, "hook", {"temp": 3})
        assert viewer.device("hook")["by_request"] is True


def test_what_is_not_durable_is_not_shown(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?device=d2") as viewer:
        viewer.until("hello")
        post(gateway, "d2", [{"temp": "x" * 2000}, {"hum": 1}])
        assert viewer.device("d2")["latest"] == {"hum": 1}


def test_a_chosen_device_shows_what_is_new_at_most_ten_times_a_second(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?device=d3&device=other") as viewer, device(gateway, "d3") as socket:
        viewer.until("hello")
        start, seen, events = time.monotonic(), list[dict[str, int]](), 0
        for number in range(150):
            socket.send(json.dumps({"a" if number % 2 else "b": number}))
            time.sleep(0.003)
        while not seen or max(seen[-1].values()) < 149:
            seen.append(viewer.device("d3")["latest"])
            events += 1
        assert 2 <= events <= (time.monotonic() - start) / 0.1 + 2
        post(gateway, "d3", {"a": 1000})
        assert viewer.device("d3")["latest"] == {"a": 1000}


def test_all_devices_come_together_and_whole(gateway: RunningGateway) -> None:
    with Watcher(gateway.url) as viewer:
        viewer.until("hello")
        for name in ("all-1", "all-2"):
            post(gateway, name, {"a": 1})
            post(gateway, name, {"b": 2})
        seen: dict[str, object] = {}
        while not {"all-1", "all-2"} <= seen.keys():
            seen |= viewer.until("readings").data["devices"]
        assert seen["all-2"]["latest"] == gateway.device("all-2")["latest"] == {"a": 1, "b": 2}  # type: ignore[index]


def test_totals_are_those_of_the_status_and_come_without_readings_too(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?readings=0") as viewer, device(gateway, "d5") as socket:
        viewer.until("hello")
        before = gateway.request("/v1/status")[1]["ledger"]["received"]
        socket.send('{"seq":1,"a":1}')
        assert answer(socket) == {"type": "ack", "seq": 1}
        gateway.settled("d5")
        names, totals = set[str](), {"ledger": {"received": before}}
        while totals["ledger"]["received"] == before or totals["ledger"]["pending"] or "presence" not in names:
            seen = viewer.next()
            names.add(seen.name)
            totals = seen.data if seen.name == "totals" else totals
        assert "readings" not in names
        status, found = gateway.request("/v1/status")
        assert (status, found["ready"], found["reasons"]) == (200, True, [])
        assert totals.keys() == found.keys() - {"ready", "reasons"}
        for name in ("devices", "ledger", "database", "dead_letters", "viewers"):
            assert totals[name] == found[name], name
        assert found["viewers"] == gateway.metric("gateway_viewers") >= 1
        assert found["devices"]["connected"] == found["devices"]["live"] == 1
        assert found["devices"]["known"] == sum(
            found["devices"][state] for state in ("live", "late", "stale", "offline")
        )


def test_a_registered_device_that_never_came_counts_as_in_the_list(gateway: RunningGateway) -> None:
    before = gateway.request("/v1/status")[1]["devices"]
    assert gateway.cli("devices", "add", "never-came").returncode == 0
    wait_for(lambda: gateway.request("/v1/devices?search=never-came")[1]["total"], "the device to be known")
    after = gateway.request("/v1/status")[1]["devices"]
    assert after["known"] == before["known"] + 1 == gateway.request("/v1/devices")[1]["total"]
    assert after == before | {"known": before["known"] + 1, "offline": before["offline"] + 1}
    with Watcher(gateway.url) as viewer:
        assert viewer.until("totals").data["devices"] == after


def test_who_comes_back_goes_on_from_where_he_was(gateway: RunningGateway) -> None:
    for name in ("back-1", "back-2"):
        post(gateway, name, {"a": 1})
    query = "?device=back-1&device=back-2"
    with Watcher(gateway.url, query) as viewer:
        viewer.until("hello")
        post(gateway, "back-1", {"a": 2})
        last = viewer.until("readings").number
    with Watcher(gateway.url, "?device=back-2") as other:
        other.until("hello")
        post(gateway, "back-2", {"b": 3})
        other.device("back-2")
    with Watcher(gateway.url, query, last=last) as viewer:
        seen = viewer.until("readings").data
    assert seen["conflated"] is False
    assert {name: shown["latest"] for name, shown in seen["devices"].items()} == {"back-2": {"b": 3}}


@pytest.mark.parametrize(
    ("query", "last"),
    [("", "5"), ("?device=back-3", "5"), ("?device=back-3", "not-ours"), ("?device=back-3", "9" * 18)],
)
def test_who_was_away_for_too_long_gets_all_there_is(gateway: RunningGateway, query: str, last: str) -> None:
    post(gateway, "back-3", {"a": 1})
    post(gateway, "back-3", {"b": 2})
    with Watcher(gateway.url, query, last=last) as viewer:
        names = [viewer.next().name for _ in range(3)]
        while "back-3" not in (seen := viewer.until("readings").data)["devices"]:
            assert seen["conflated"]
    assert "hello" in names
    assert seen["conflated"]
    assert seen["devices"]["back-3"]["latest"] == {"a": 1, "b": 2}


def test_a_device_that_falls_silent_turns_late(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, "?device=rhythm") as viewer, device(gateway, "rhythm") as socket:
        assert viewer.until("presence").data["state"] == "live"
        for number in range(5):
            socket.send(f'{{"a":{number}}}')
            time.sleep(0.15)
        found = gateway.device("rhythm")
        assert (found["state"], 100 < found["rhythm_ms"] < 1000, found["rate"] > 1) == ("live", True, True)
        late = viewer.until("presence").data
        assert (late["state"], late["reason"]) == ("late", "silent")
        listed = gateway.request("/v1/devices?state=late,stale&search=rhythm")[1]["devices"]
        assert [one["id"] for one in listed] == ["rhythm"]
        socket.send('{"a":1}')
        again = viewer.until("presence").data
        assert (again["state"], again["since"] > late["since"]) == ("live", True)


def test_devices_are_sorted_and_counted_by_state(gateway: RunningGateway) -> None:
    for name in ("sort-b", "sort-a", "sort-c"):
        post(gateway, name, {"a": 1})
    with device(gateway, "sort-b"):

        def ids(query: str) -> list[str]:
            body = gateway.request(f"/v1/devices?search=sort-&{query}")[1]
            assert body["total"] == (1 if "state=live" in query else 3)
            return [one["id"] for one in body["devices"]]

        assert ids("order=desc") == ["sort-c", "sort-b", "sort-a"]
        assert ids("sort=last_data") == ["sort-b", "sort-a", "sort-c"]
        assert ids("sort=last_data&order=desc&offset=1&limit=1") == ["sort-a"]
        assert ids("sort=state") == ["sort-b", "sort-a", "sort-c"]
        assert ids("state=live") == ["sort-b"]
    for wrong in ("sort=x", "order=x", "state=online"):
        assert gateway.request(f"/v1/devices?{wrong}")[0] == 400


def test_a_device_that_was_refused_shows_what_it_was_told(gateway: RunningGateway) -> None:
    with device(gateway, "wrong") as socket:
        for message in ('{"seq":7,"a":[1]}', '{"a":[1]}', '{"a":'):
            socket.send(message)
            while answer(socket)["type"] not in {"reject", "error"}:
                pass
    post(gateway, "wrong", {"b": []})
    problems = gateway.device("wrong")["problems"]
    assert [(p["code"], p["field"], p["seq"], p["count"]) for p in problems] == [
        ("wrong_type", "b", None, 1),
        ("malformed_json", None, None, 1),
        ("wrong_type", "a", None, 2),
    ]
    assert all(p["message"] and p["at"] > TS for p in problems)


def test_history_has_columns_of_the_same_length(gateway: RunningGateway) -> None:
    def taken() -> dict[str, list[float]] | None:
        body = gateway.request("/v1/status/history?seconds=3600")[1]
        assert body["interval_ms"] == 5000
        return body["columns"] if body["columns"]["pending"] else None

    columns = wait_for(taken, "the first sample")
    assert len({len(column) for column in columns.values()}) == 1
    assert columns["messages_per_second"][-1] is not None
    assert gateway.request("/v1/status/history?seconds=7200")[1]["interval_ms"] == 60_000
    assert gateway.request("/v1/status/history?seconds=1")[0] == 400


@pytest.mark.parametrize("query", ["?device=a%20b", "?device=", "?" + "&".join(f"device=d{n}" for n in range(101))])
def test_a_wrong_filter_is_told(gateway: RunningGateway, query: str) -> None:
    assert gateway.request(f"/v1/live{query}")[0] == 400


def test_a_stop_ends_the_streams_and_does_not_wait_for_them(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway, Watcher(gateway.url) as viewer, Watcher(gateway.url):
        viewer.until("hello")
        start = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - start < CLOSE_GRACE, "nothing has to be cut off"
        assert viewer.ended()


def test_devices_get_their_acks_while_a_viewer_does_not_read(gateway: RunningGateway) -> None:
    with Watcher(gateway.url, receive_buffer=4096) as viewer:
        asyncio.run(_stream(gateway, lambda: gateway.metric("gateway_live_conflated_total") > 0))
        newest: dict[str, int] = {}
        marks = set[bool]()
        while len(newest) < FLEET or len(set(newest.values())) > 1:
            seen = viewer.until("readings").data
            marks.add(seen["conflated"])
            newest |= {name: shown["latest"]["n"] for name, shown in seen["devices"].items() if "slow-" in name}
        assert marks == {True, False}
        assert newest["slow-0"] == gateway.device("slow-0")["latest"]["n"]


async def _stream(gateway: RunningGateway, enough: Callable[[], bool]) -> None:
    """Devices that send a message when the one before is acknowledged, until it is enough."""
    async with contextlib.AsyncExitStack() as stack:
        connecting = (connect(f"{gateway.ws}/v1/devices/slow-{n}/stream", compression=None) for n in range(FLEET))
        sockets = [await stack.enter_async_context(one) for one in connecting]
        for socket in sockets:
            await asyncio.wait_for(socket.recv(), 10)
        number, done = 0, False
        while not done:
            done = await asyncio.to_thread(enough)
            number += 1
            for socket in sockets:
                await socket.send(json.dumps({"seq": number, "n": number, "text": "x" * 900}))
            for socket in sockets:
                while json.loads(await asyncio.wait_for(socket.recv(), 10)).get("seq") != number:
                    pass
