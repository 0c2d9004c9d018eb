from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import vega_datasets

from devices_sim.replay import Recording, device_id
from devices_sim.run import Outcome, Plan
from devices_sim.scheduler import clock
from devices_sim.table import Columns, TableError, read_table
from tests.support.meaning import Meaning, meaning
from tests.support.peer import LIMITS, Conversation, Peer, eventually, obliging
from tests.support.simulator import conducted

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices_sim.tally import Tally

DATA = Path(vega_datasets.__file__).parent / "_data"
DAY_NS = 86_400 * 10**9


def replay(
    peer: Peer, path: Path, columns: Columns | None = None, until: Callable[[Tally], Any] | None = None, **over: Any
) -> Outcome:
    rows = read_table(path, columns or Columns())
    options = {"device": "d", "tokens": lambda _name: None, **over}

    async def main() -> Outcome:
        async with peer.serving():
            return await conducted(Plan(peer.url, grace=30.0), Recording(rows, **options).build, until=until)

    return asyncio.run(main())


def arrived(peer: Peer, device: str = "d") -> list[Meaning]:
    return [reading for name, message in peer.stored if name == device for reading in meaning(message)]


def test_a_year_of_hourly_temperatures_arrives_as_the_file_has_it() -> None:
    peer = Peer()
    outcome = replay(peer, DATA / "seattle-temps.csv")
    assert outcome.complete
    with (DATA / "seattle-temps.csv").open() as file:
        expected = [float(row["temp"]) for row in csv.DictReader(file)]
    assert [fields for *_, fields in arrived(peer)] == [{"temp": temp} for temp in expected]
    hours = [time for _, _, time, _ in arrived(peer)]
    assert hours[0] == 1_262_304_000 * 10**9
    assert hours == sorted(set(hours))
    assert len(peer.stored) == -(-len(expected) // 500), "500 rows a message"
    assert outcome.summary["acked"] == len(expected)


def test_numbers_and_texts_of_several_columns() -> None:
    peer = Peer()
    outcome = replay(peer, DATA / "seattle-weather.csv", measurement="weather")
    with (DATA / "seattle-weather.csv").open() as file:
        table = list(csv.DictReader(file))
    numbers = ("precipitation", "temp_max", "temp_min", "wind")
    expected = [{"weather": row["weather"], **{name: float(row[name]) for name in numbers}} for row in table]
    assert [fields for *_, fields in arrived(peer)] == expected
    assert [time for _, _, time, _ in arrived(peer)] == [1_325_376_000 * 10**9 + n * DAY_NS for n in range(len(table))]
    assert {measurement for measurement, *_ in arrived(peer)} == {"weather"}
    (device,) = outcome.devices
    points = [(p.measurement, p.tags, p.time_ns, p.fields) for p in device.acked()]
    assert points == arrived(peer)


def test_rows_at_one_time_become_tags() -> None:
    peer = Peer()
    outcome = replay(peer, DATA / "iowa-electricity.csv", Columns(tags=("source",)))
    assert outcome.summary["acked"] == len({(time, tags["source"]) for _, tags, time, _ in arrived(peer)}) == 51


def test_rows_at_one_time_become_devices() -> None:
    peer = Peer()
    tokens: list[str] = []
    outcome = replay(
        peer,
        DATA / "iowa-electricity.csv",
        Columns(device="source"),
        device="iowa",
        tokens=tokens.append,
    )
    ids = ["iowa-Fossil-Fuels", "iowa-Nuclear-Energy", "iowa-Renewables"]
    assert sorted(device.id for device in outcome.devices) == sorted(tokens) == ids
    assert [len(arrived(peer, name)) for name in ids] == [17, 17, 17]


def write(tmp_path: Path, rows: int, text: str = "") -> Path:
    path = tmp_path / "t.csv"
    body = "".join(f"{1_700_000_000 + n},{n},{text}\n" for n in range(rows))
    path.write_text(f"time,n,text\n{body}")
    return path


def test_messages_keep_within_the_gateways_limit(tmp_path: Path) -> None:
    peer = Peer(limits={**LIMITS, "max_message_bytes": 1000})
    outcome = replay(peer, write(tmp_path, 50, "é" * 100))
    assert outcome.complete
    assert [fields["n"] for *_, fields in arrived(peer)] == list(range(50))
    assert {len(message["readings"]) for _, message in peer.stored} == {3, 2} or len(peer.stored) == 17


def test_a_row_over_the_limit_is_not_sent_and_the_replay_is_not_complete(tmp_path: Path) -> None:
    peer = Peer(limits={**LIMITS, "max_message_bytes": 80})
    outcome = replay(peer, write(tmp_path, 2, "x" * 100))
    assert outcome.summary["oversized"] == 2
    assert not outcome.complete


@pytest.mark.parametrize(("allowed", "most"), [(4, 4), (1000, 16)])
def test_unacknowledged_messages_are_few(tmp_path: Path, allowed: int, most: int) -> None:
    waiting: list[int] = []
    seen: list[int] = []

    async def acknowledge(talk: Conversation) -> None:
        expected = min(most, 40 - waiting[0])
        await eventually(lambda: len(waiting) >= expected, "as many messages as may be unacknowledged")
        await asyncio.sleep(0.02)  # one message too many would come now
        seen.append(len(waiting))
        await talk.say(type="ack", seq=waiting[-1])
        waiting.clear()

    async def slow(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" not in message:
            await obliging(talk, message)
            return
        waiting.append(message["seq"])
        if len(waiting) == 1:
            acknowledging.append(asyncio.ensure_future(acknowledge(talk)))

    acknowledging: list[asyncio.Future[None]] = []
    outcome = replay(Peer(slow, limits={**LIMITS, "max_unacked": allowed}), write(tmp_path, 40), batch=1)
    assert outcome.complete
    assert max(seen) == most


def test_a_throttled_replay_loses_nothing(tmp_path: Path) -> None:
    throttled = came_again = False

    async def full(talk: Conversation, message: dict[str, Any]) -> None:
        nonlocal throttled, came_again
        if message.get("seq") == 3:
            came_again = throttled
            if not throttled:
                throttled = True
                await talk.say(type="throttle", limit="spool_bytes", retry_after_ms=200, from_seq=3)
        if "seq" not in message or not throttled or came_again:
            await obliging(talk, message)

    peer = Peer(full)
    outcome = replay(peer, write(tmp_path, 40), batch=1)
    assert outcome.complete
    assert [fields["n"] for *_, fields in arrived(peer)] == list(range(40))
    assert outcome.summary["resent"] == 13


def test_a_multiple_of_the_recorded_pace(tmp_path: Path) -> None:
    """No row comes before its time, and the last comes long before the ten seconds that were recorded are over."""
    times: list[float] = []

    async def note(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message:
            times.extend([clock()] * len(message["readings"]))
        await obliging(talk, message)

    peer, begun = Peer(note), clock()
    outcome = replay(peer, write(tmp_path, 11), speed=10.0)
    assert outcome.complete
    assert all(time - begun >= n / 10 for n, time in enumerate(times))
    assert times[-1] - begun < 10
    assert [time for _, _, time, _ in arrived(peer)] == [(1_700_000_000 + n) * 10**9 for n in range(11)]


def test_a_replay_that_is_stopped_early_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,a\n2024-01-01T00:00:00Z,1\n2024-01-01T01:00:00Z,2\n2024-01-01T02:00:00Z,3\n")
    outcome = replay(Peer(), path, speed=1.0, until=lambda tally: tally.acked)
    assert not outcome.complete
    assert (outcome.summary["acked"], outcome.summary["never_sent"]) == (1, 2)


def test_rows_without_a_value_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,v\n2020-01-01,1\n2020-01-02,\n2020-01-03,3\n")
    peer = Peer()
    assert replay(peer, path).summary["sent"] == 2


def test_ids_are_made_of_what_an_id_may_have() -> None:
    assert device_id("plant", "Fossil Fuels") == "plant-Fossil-Fuels"
    assert device_id("plant", " (é)/7 ") == "plant-7"
    assert device_id("plant", "") == "plant"
    assert len(device_id("p", "x" * 500)) == 128


def test_two_values_may_not_become_one_device(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,unit,v\n2020-01-01,a b,1\n2020-01-01,a/b,2\n")
    recording = Recording(read_table(path, Columns(device="unit")), "d", lambda _name: None)
    with pytest.raises(TableError, match=r"a b and a/b would both be the device d-a-b"):
        recording.by_device()
