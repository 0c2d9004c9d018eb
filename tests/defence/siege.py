"""A fleet of attackers at a gateway, one kind of attack after the other, and the result of each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.state.registry import Registry
from tests.defence.attacks import ATTACKS, SMALL_BUFFER, Rogue
from tests.defence.line import Line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ADDRESSES = 50
"""Loopback addresses of the attackers; every fourth attacker is at the address of the good devices instead."""
RAMP = 3.0
"""The most seconds within which the attackers of a kind connect."""
PAUSE = 1.0
"""About the seconds until an attacker that was cut connects again."""


@dataclass
class AttackResult:
    """The result of one attack: ``most`` were connected at once, ``endings`` say how connections ended."""

    name: str
    most: int = 0
    connected: int = 0
    endings: Counter[str] = field(default_factory=Counter)

    @property
    def made(self) -> int:
        """All connections made, ended or not."""
        return self.connected + self.endings.total()


def enlist(state: Path, good: int, rogues: int) -> tuple[Path, list[Rogue]]:
    """A registry in ``state`` before a gateway has one: a file of tokens for `devices-sim`, and the attackers."""
    state.mkdir(parents=True, exist_ok=True)
    registry = Registry(state / "registry.db")
    registry._db.execute("PRAGMA synchronous = OFF")  # thousands of devices, each a transaction
    tokens = state / "tokens.csv"
    tokens.write_text("".join(f"good-{n},{registry.add(f'good-{n}')}\n" for n in range(good)))
    found = [Rogue(f"rogue-{n}", registry.add(f"rogue-{n}"), _address(n)) for n in range(rogues)]
    registry.close()
    return tokens, found


def _address(number: int) -> str:
    return "127.0.0.1" if number % 4 == 0 else f"127.0.1.{1 + number % ADDRESSES}"


async def attack(name: str, target: tuple[str, int], rogues: Sequence[Rogue], seconds: float) -> AttackResult:
    """Have all of ``rogues`` do one attack for so long, coming again whenever they are cut."""
    outcome = AttackResult(name)
    ramp = min(RAMP, seconds / 3)
    tasks = [
        asyncio.create_task(one_after_the_other(outcome, target, rogue, ramp * n / len(rogues)))
        for n, rogue in enumerate(rogues)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    return outcome


async def one_after_the_other(outcome: AttackResult, target: tuple[str, int], rogue: Rogue, after: float = 0.0) -> None:
    """Attack, and attack again whenever the connection is cut."""
    await asyncio.sleep(after)
    doing, buffer = ATTACKS[outcome.name], SMALL_BUFFER.get(outcome.name)
    for _ in itertools.count():
        line = Line(target, rogue.address, receive_buffer=buffer)
        counted = False
        with contextlib.suppress(OSError, EOFError):
            async with line:
                outcome.connected += 1
                counted = True
                outcome.most = max(outcome.most, outcome.connected)
                await doing(line, rogue)
        outcome.connected -= counted
        outcome.endings[line.ended if counted else "no connection"] += 1
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))
