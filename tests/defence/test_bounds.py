"""Each attack alone, or a few together: with what it ends, what it costs, and that others get their acks meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import re
import urllib.parse
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.defence.__main__ import memory
from tests.defence.attacks import TEXT, TRICKS, TS, Rogue, json_bombs
from tests.defence.line import Line, frame, handshake
from tests.defence.siege import AttackResult, attack, enlist, one_after_the_other
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.modes import TLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.skipif(TLS, reason="attackers speak plain TCP")

ADMIN = "admin-token-for-tests-0123456789"
SERIES = 50
PATIENCE = 30.0
QUIET = 0.5
"""Seconds for which a device that behaves is watched without an attack."""
SLOWER = 10
"""So many times fewer readings a second may get through during an attack."""
MIB = 1024**2
CONFIG = {
    "auth": {"mode": "token", "timeout": "1s", "viewer_token": "viewer-token-for-tests-0123456789"},
    "keepalive": {"message_timeout": "1s"},
    "limits": {"series_per_day": SERIES},
    "profiles": {"default": {"allowed_tags": ["batch", "site"]}},
}
EXPECTED = {
    "stranger": {"4401"},
    "trickle": {"4408"},
    "empty_fragments": {"1008", "4408"},
    "pings": {"1008"},
    "colliding_keys": {"4401"},
    "bad_frame": {"1002", "1003", "1007", "1009"},
}
"""The close codes and statuses with which the gateway ends an attack within seconds."""
SINGLY: dict[str, set[str]] = {
    "half_open": set(),
    "slow_header": set(),
    "slow_body": set(),
    "json_bomb": {"1008"},
    "compression_bomb": {"1002"},
    "tag_bomb": {"1008"},
    "guess": {"4401", "HTTP 429"},
    "tiny_messages": {"1008"},
}
"""Attacks that run alone, and the codes with which the gateway may end them within seconds."""
SECONDS = 1.0
TROOP = 12
"""Devices of one attack: the first behaves, those at other addresses attack."""
SOCKETS = {"half_open": 180, "slow_header": 180, "json_bomb": 1, "tiny_messages": 2}
"""How many attack at once, where not 9: few enough that tests on a shared core pass."""


@pytest.fixture(scope="module")
def rogues() -> list[Rogue]:
    """Filled with the gateway's registry."""
    return []


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, rogues: list[Rogue]) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    rogues += enlist(directory / "state", 0, 40 + len(SINGLY) * TROOP)[1]
    with running_gateway(directory, CONFIG) as running:
        yield running


def target(gateway: RunningGateway) -> tuple[str, int]:
    address = urllib.parse.urlsplit(gateway.url)
    return str(address.hostname), int(address.port or 0)


def run(test: Awaitable[Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, PATIENCE))  # type: ignore[arg-type]


class Device:
    """A good device, on a connection of its own."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._heard = b""
        self.seq = -1

    async def connect(self, rogue: Rogue) -> None:
        """Connect, and wait for the welcome."""
        self._heard = await self._line.upgrade(rogue.device, rogue.token)
        await self.until(b'"welcome"')

    async def send(self, **reading: Any) -> None:
        """Send a reading and wait for its ack."""
        self.seq += 1
        await self._line.say(frame(TEXT, json.dumps({"seq": self.seq, "ts": TS + self.seq, **reading}).encode()))
        await self.until(b'{"type":"ack","seq":%d}' % self.seq)

    async def pace(self, over: Callable[[], bool]) -> float:
        """Readings a second, each after the ack of the one before, until it is over; at least one."""
        loop = asyncio.get_running_loop()
        begun, first, done = loop.time(), self.seq, False
        while not done:
            done = over()
            await self.send(values={"temp": 21.5})
            await asyncio.sleep(0.01)
        return (self.seq - first) / (loop.time() - begun)

    async def until(self, text: bytes) -> bytes:
        """What was heard up to and with ``text``."""
        while text not in self._heard:
            self._heard += await self._line.hear()
        before, _, self._heard = self._heard.partition(text)
        return before + text


async def while_one_behaves(
    gateway: RunningGateway, rogue: Rogue, doing: Callable[[], Awaitable[Any]]
) -> tuple[int, Any]:
    """How many acks a device got that waits for each, while something was done and after it; and what came of that.

    An attack may slow it down, but only so much: acks that come late would be as good as none.
    """
    async with Line(target(gateway)) as line:
        device = Device(line)
        await device.connect(rogue)
        task = asyncio.ensure_future(doing())
        beside = await device.pace(task.done)
        end = asyncio.get_running_loop().time() + QUIET
        alone = await device.pace(lambda: asyncio.get_running_loop().time() >= end)
        assert beside * SLOWER > alone, f"{beside:.1f} acks a second during the attack, {alone:.1f} without it"
        return device.seq + 1, task.result()


def test_attacks_are_ended_with_their_codes_while_others_get_their_acks(
    gateway: RunningGateway, rogues: list[Rogue]
) -> None:
    before = memory(gateway, "VmRSS")
    good, *others = rogues[: 1 + 3 * len(EXPECTED)]
    outcomes = {name: AttackResult(name) for name in EXPECTED}

    async def all_at_once() -> None:
        each = zip(list(outcomes.values()) * 3, others, strict=True)
        tasks = [asyncio.create_task(one_after_the_other(out, target(gateway), who)) for out, who in each]
        while any(out.endings.total() < 3 for out in outcomes.values()):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    acks, _ = run(while_one_behaves(gateway, good, all_at_once))
    for name, outcome in outcomes.items():
        assert EXPECTED[name] & set(outcome.endings), (name, outcome.endings)
        assert set(outcome.endings) <= EXPECTED[name] | {"cut"}, (name, outcome.endings)
    sums = gateway_ledger(gateway, good.device)
    assert (sums["received"], sums["rejected"], sums["dropped"], sums["gaps"]) == (acks, 0, 0, 0)
    assert memory(gateway, "VmRSS") - before < 96 * MIB


@pytest.mark.parametrize("name", SINGLY)
def test_an_attack_takes_neither_memory_nor_the_acks_of_others(
    gateway: RunningGateway, rogues: list[Rogue], name: str
) -> None:
    begin = len(rogues) - TROOP * (1 + list(SINGLY).index(name))
    good, *others = rogues[begin : begin + TROOP]
    elsewhere = itertools.cycle(who for who in others if who.address != "127.0.0.1")
    attackers = list(itertools.islice(elsewhere, SOCKETS.get(name, 9)))
    before = memory(gateway, "VmRSS")
    acks, outcome = run(while_one_behaves(gateway, good, lambda: attack(name, target(gateway), attackers, SECONDS)))
    assert outcome.made > len(attackers) / 2
    assert set(outcome.endings) <= SINGLY[name] | {"cut"}
    sums = gateway_ledger(gateway, good.device)
    assert (sums["received"], sums["rejected"], sums["dropped"], sums["gaps"]) == (acks, 0, 0, 0)
    assert memory(gateway, "VmHWM") - before < 48 * MIB, "at most, meanwhile"


def gateway_ledger(gateway: RunningGateway, device: str) -> dict[str, int]:
    status, body = gateway.request(f"/v1/devices/{device}", token=ADMIN)
    assert status == 200, body
    return dict(body["ledger"])


@pytest.mark.parametrize("bomb", json_bombs(), ids=range(len(json_bombs())))
def test_a_message_that_is_costly_to_read_delays_only_its_sender(
    gateway: RunningGateway, rogues: list[Rogue], bomb: bytes
) -> None:
    before = memory(gateway, "VmRSS")

    async def send() -> None:
        async with Line(target(gateway)) as line:
            device = Device(line)
            await device.connect(rogues[31])
            await line.say(frame(TEXT, bomb))
            await device.send(values={"temp": 21.5})

    run(send())
    assert memory(gateway, "VmRSS") - before < 48 * MIB


def test_compression_is_not_agreed_and_nothing_is_inflated(gateway: RunningGateway, rogues: list[Rogue]) -> None:
    async def offer() -> tuple[bytes, str]:
        async with Line(target(gateway)) as line:
            head = await line.upgrade(
                rogues[32].device, rogues[32].token, "Sec-WebSocket-Extensions: permessage-deflate"
            )
            await line.say(frame(0xC1, gzip.compress(bytes(MIB))))
            with pytest.raises(EOFError):
                await line.hear_out()
            return head, line.ended

    head, ended = run(offer())
    assert b"Sec-WebSocket-Extensions" not in head
    assert ended == "1002"

    async def post() -> bytes:
        body = gzip.compress(b'{"temp":21.5}')
        request = (
            f"POST /v1/devices/{rogues[32].device}/readings HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
            f"Authorization: Bearer {rogues[32].token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with Line(target(gateway)) as line:
            return await line.answer(request.encode() + body)

    assert run(post()).startswith(b"HTTP/1.1 400")


def test_a_tag_that_never_repeats_is_named_and_what_is_in_use_goes_on(
    gateway: RunningGateway, rogues: list[Rogue]
) -> None:
    async def bomb() -> list[dict[str, Any]]:
        async with Line(target(gateway)) as line:
            device = Device(line)
            await device.connect(rogues[33])
            rows = [{"ts": TS, "tags": {"site": "n", "batch": str(n)}, "values": {"temp": 1}} for n in range(500)]
            await line.say(frame(TEXT, json.dumps({"seq": 0, "readings": rows}).encode()))
            found = await device.until(b"]}")
            await device.until(b'{"type":"ack","seq":0}')
            device.seq = 0
            await device.send(values={"temp": 2}, tags={"site": "n", "batch": "0"})
            return list(json.loads(found[found.index(b'{"type":"reject"') :])["errors"])

    async def other() -> None:
        async with Line(target(gateway)) as line:
            device = Device(line)
            await device.connect(rogues[34])
            for n in range(SERIES):
                await line.say(frame(TEXT, json.dumps({"tags": {"batch": str(n)}, "values": {"temp": n}}).encode()))
            await device.send(values={"temp": 2})

    before = gateway.metric("gateway_series_refused_readings")
    errors = run(bomb())
    assert Counter((error["code"], error["field"]) for error in errors) == {("too_many_series", "batch"): 500 - SERIES}
    assert gateway.metric("gateway_series_refused_readings") == before + 500 - SERIES
    run(other())
    assert gateway.metric("gateway_series_refused_readings") == before + 500 - SERIES, "each device has its own budget"
    # a new connection has no new budget
    errors = run(bomb())
    assert len(errors) == 500 - SERIES


REQUESTS = [
    "GET /static/../../../../etc/passwd",
    "GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "GET /static/..%2f..%2fregistry.db",
    "GET //etc/passwd",
    *(f"GET /v1/devices/{trick}/settings" for trick in TRICKS),
    *(f"POST /v1/devices/{trick}/readings" for trick in TRICKS),
    *(f"POST /v1/devices/{trick}/commands" for trick in TRICKS),
    *(f"GET /v1/why/{trick}?seq=1" for trick in TRICKS),
]


def test_no_path_leads_out_and_no_line_is_forged(gateway: RunningGateway, rogues: list[Rogue]) -> None:
    forged = "2026-01-01 00:00:00,000 CRITICAL forged"

    async def ask(request: bytes) -> bytes:
        async with Line(target(gateway)) as line:
            return await line.answer(request)

    for request in REQUESTS:
        more = f"Authorization: Bearer {ADMIN}\r\nUser-Agent: \x1b[31m{forged}\r\nContent-Length: 2\r\n\r\n{{}}"
        answer = run(ask(f"{request} HTTP/1.1\r\nHost: h\r\n{more}".encode()))
        assert answer[9:12] in {b"400", b"401", b"404", b"409"}, (request, answer)
        assert b"root:" not in answer
    for trick in TRICKS:
        answer = run(ask(handshake(trick, rogues[35].token)))
        assert answer[9:12] == b"400", (trick, answer)

    async def speak() -> None:
        async with Line(target(gateway)) as line:
            await line.upgrade(rogues[35].device, rogues[35].token)
            await line.say(frame(TEXT, json.dumps({"type": "hello", "info": {"m": f"\n{forged}\x1b[2J"}}).encode()))
            await line.say(frame(TEXT, f"\n{forged}".encode()))
            await line.say(frame(0x88, (4000).to_bytes(2) + f"\r\n{forged}".encode()))
            with pytest.raises(EOFError):
                await line.hear_out()

    run(speak())
    line_of_ours = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +[a-z_.]+: |    ")
    lines = gateway.log.splitlines()
    assert [line for line in lines if not line_of_ours.match(line)] == []
    assert not any(forged in line for line in lines)
