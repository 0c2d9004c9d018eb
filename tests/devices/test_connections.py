"""How many connections there may be, and how they end when the gateway stops; with real devices: tests/e2e."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.config import Config
from gateway.config.active_config import ActiveConfig
from gateway.devices import connections
from gateway.devices.connections import FIRST_RECONNECT_MS, RECONNECTS_PER_SECOND, Connections
from gateway.devices.fleet import Fleet
from gateway.ledger import Ledger
from gateway.metrics import Metrics

if TYPE_CHECKING:
    import pytest


class Leaving:
    """Devices and a spool that write down what is done to them."""

    def __init__(self, count: int, *, stays: bool = False) -> None:
        self.done: list[str] = []
        self.delays: list[int] = []
        self.count, self.stays = count, stays
        self.connections = Connections(ActiveConfig(Config()), Fleet(Ledger()), Metrics(), 100)

    async def drain(self) -> None:
        for _ in range(self.count):
            socket: Any = Socket(self, stays=self.stays)
            self.connections.opened(socket)
        self.connections.draining = True
        await self.connections.drain(self.flush)

    async def flush(self) -> None:
        self.done.append("flush")


class Socket:
    def __init__(self, leaving: Leaving, *, stays: bool) -> None:
        self.leaving = leaving
        self.stays = stays

    def drain(self, reconnect_after_ms: int) -> None:
        self.leaving.done.append("drain")
        self.leaving.delays.append(reconnect_after_ms)

    def restart(self) -> None:
        self.leaving.done.append("restart")
        if not self.stays:
            self.abort()

    def abort(self) -> None:
        if self.stays:
            self.leaving.done.append("abort")
        socket: Any = self
        self.leaving.connections.closed(socket, welcomed=False)


def let_all_go(leaving: Leaving) -> list[str]:
    asyncio.run(asyncio.wait_for(leaving.drain(), 20))
    return leaving.done


def test_all_are_told_before_what_they_sent_is_committed_and_closed_after_it() -> None:
    assert let_all_go(Leaving(3)) == [*["drain"] * 3, "flush", *["restart"] * 3, "flush"]


def test_they_come_back_evenly() -> None:
    leaving = Leaving(RECONNECTS_PER_SECOND + 1)
    let_all_go(leaving)
    assert leaving.delays == sorted(leaving.delays)
    assert (leaving.delays[0], leaving.delays[-1]) == (FIRST_RECONNECT_MS, FIRST_RECONNECT_MS + 1000)


def test_who_does_not_answer_the_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CLOSE_GRACE", 0.01)
    assert let_all_go(Leaving(2, stays=True))[-3:] == ["abort", "abort", "flush"]


def test_without_connections_nothing_is_waited_for() -> None:
    assert let_all_go(Leaving(0)) == ["flush"] * 2
