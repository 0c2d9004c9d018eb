"""Dead letters over HTTP: what ``gateway dead-letters`` does.

Rules that hold here:

* Everything is done on a thread, and a replay goes on to its end when whoever asked for it leaves. One at a time.
* What is to be dropped is named in the body and nowhere else, and a name that is not known is refused: a slip must not
  drop everything.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.web import Finish, HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.handler import MALFORMED
from gateway.delivery.replay import ReplayRunning
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.dead_letters import DeadLetter, DeadLetters
    from gateway.delivery.replay import Replay

T = TypeVar("T")

DEFAULT_PAGE = 50
LARGEST_PAGE = 200
MOST_IDS = 1000
LONGEST_TEXT = 4000
"""Characters of a point, or of the database's words, that are shown; `gateway dead-letters show` has all."""


class LettersHandler(BlockingHandler):
    """What all endpoints of dead letters share."""

    dead_letters: DeadLetters

    async def ask_letters(self, call: Callable[[DeadLetters], T]) -> T:
        """What ``call`` returns.

        Raises:
            Finish: it could not be done, and the reason was sent.
        """
        try:
            return await self.run_blocking(lambda: call(self.dead_letters))
        except sqlite3.Error as error:
            self.refuse(503, "dead_letters", f"dead letters: {error}")
            raise Finish from None

    def chosen(self) -> dict[str, Any]:
        """Which letters the body names: ``reason``, ``device``, ``ids``; those that fit all of them, ``{}`` is all."""
        if self.request.query:
            raise HTTPError(MALFORMED, "which dead letters are meant is said in the body, not in the address")
        chosen = self.body_object({"reason": str, "device": str, "ids": list})
        ids = chosen.get("ids", [])
        if len(ids) > MOST_IDS or not all(type(n) is int and 0 < n < 2**63 for n in ids):
            raise HTTPError(MALFORMED, f"ids are at most {MOST_IDS} numbers of dead letters")
        return chosen


class DeadLettersHandler(LettersHandler):
    """``/v1/dead-letters``."""

    async def get(self) -> None:
        """A page of them, the newest first."""
        offset = self.number("offset", 0, 0, 10_000_000)
        limit = self.number("limit", DEFAULT_PAGE, 1, LARGEST_PAGE)
        reason, device = self.get_query_argument("reason", None), self.get_query_argument("device", None)

        def look(letters: DeadLetters) -> dict[str, Any]:
            total, page = letters.page(offset, limit, reason=reason, device=device)
            return {
                "total": total,
                "offset": offset,
                "by_reason": letters.count_by_reason(),
                "letters": [_described(letter) for letter in page],
            }

        self.answer(await self.ask_letters(look))

    async def delete(self) -> None:
        """Delete those chosen for good."""
        chosen = self.chosen()
        self.answer({"dropped": await self.ask_letters(lambda letters: letters.delete(**chosen))})


class ReplayHandler(LettersHandler):
    """``POST /v1/dead-letters/replay``."""

    replay: Replay

    async def post(self) -> None:
        """Write those chosen to the database again; answered when all were tried."""
        chosen = self.chosen()
        try:
            self.answer(await self.ask_letters(lambda letters: self._replay(letters, chosen)))
        except ReplayRunning:
            self.refuse(409, "replay_runs", "dead letters are being written again already; wait until that is done")

    def _replay(self, letters: DeadLetters, chosen: dict[str, Any]) -> dict[str, Any]:
        done = self.replay.run(**chosen)
        stopped = None if done.stopped is None else done.stopped.reason
        return {"replayed": done.stored, "refused": done.refused, "left": letters.count(), "stopped": stopped}


def _described(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.n,
        "device": letter.device,
        "reason": letter.kind,
        "message": _short(letter.reason),
        "line": _short(letter.data.decode(errors="replace").removesuffix("\n")),
        "at": letter.refused_ns // NS_PER_MS,
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
