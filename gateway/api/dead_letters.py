"""``/v1/dead-letters``: reading, replaying and dropping them, as ``gateway dead-letters`` does.

Rules that hold here:

* Everything is done on a thread, and a replay goes on to its end when the client has left. One replay at a time.
* Dead letters to drop are chosen in the body and nowhere else, and an unknown key is refused: a slip of the pen must
  not drop all of them.
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
MAX_PAGE = 200
MAX_IDS = 1000
MAX_TEXT = 4000
"""Characters of a point, or of the database's message, in an answer; `gateway dead-letters show` prints all."""


class LettersHandler(BlockingHandler):
    """What all endpoints of dead letters share."""

    dead_letters: DeadLetters

    async def ask_letters(self, call: Callable[[DeadLetters], T]) -> T:
        """What ``call`` returns.

        Raises:
            Finish: it could not be done, and the client was told why.
        """
        try:
            return await self.run_blocking(lambda: call(self.dead_letters))
        except sqlite3.Error as error:
            self.refuse(503, "dead_letters", f"dead letters: {error}")
            raise Finish from None

    def chosen(self) -> dict[str, Any]:
        """The filter in the body: ``reason``, ``device``, ``ids``, all of which have to fit; ``{}`` fits all."""
        if self.request.query:
            raise HTTPError(MALFORMED, "which dead letters are meant is said in the body, not in the address")
        chosen = self.body_object({"reason": str, "device": str, "ids": list})
        ids = chosen.get("ids", [])
        if len(ids) > MAX_IDS or not all(type(n) is int and 0 < n < 2**63 for n in ids):
            raise HTTPError(MALFORMED, f"ids are at most {MAX_IDS} numbers of dead letters")
        return chosen


class DeadLettersHandler(LettersHandler):
    """``/v1/dead-letters``."""

    async def get(self) -> None:
        """A page of them, the newest first."""
        offset = self.number("offset", 0, 0, 10_000_000)
        limit = self.number("limit", DEFAULT_PAGE, 1, MAX_PAGE)
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
        """Delete the chosen ones for good."""
        chosen = self.chosen()
        self.answer({"dropped": await self.ask_letters(lambda letters: letters.delete(**chosen))})


class ReplayHandler(LettersHandler):
    """``POST /v1/dead-letters/replay``."""

    replay: Replay

    async def post(self) -> None:
        """Write the chosen ones to the database again; answered when all were tried."""
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
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
