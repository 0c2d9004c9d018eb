"""Submitting dead letters again, once the cause is mended: what the database takes now leaves the store, one by one.

Rules that hold here:

* The line is written as it stands, so a point that was stored after all is overwritten with itself.
* A group that is refused is halved until the bad point stands alone, as in a batch.
* Letters that come meanwhile wait for the next time: an end is certain.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.delivery.dead_letters import DeadLetter, DeadLetters
    from gateway.delivery.sink import ActiveSink
    from gateway.delivery.write_result import WriteResult

PAGE = 500
"""Letters submitted again in one write."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of letters submitted again; ``stopped`` is the answer that ended it early, with the rest kept."""

    stored: int
    refused: int
    stopped: RetryLater | OperatorNeeded | None = None


class ReplayRunning(Exception):
    """Another replay of the same dead letters is under way."""


class Replay:
    """Replays the dead letters of a running gateway into its present database, one replay at a time."""

    def __init__(self, letters: DeadLetters, database: ActiveSink) -> None:
        self._letters = letters
        self._database = database
        self._running = threading.Lock()

    def run(
        self, *, reason: str | None = None, device: str | None = None, ids: Sequence[int] | None = None
    ) -> Replayed:
        """As `replay_letters`. Blocks.

        Raises:
            ReplayRunning: another replay is under way; nothing was done.
            sqlite3.Error: as `replay_letters`.
        """
        if not self._running.acquire(blocking=False):
            raise ReplayRunning
        try:
            return replay_letters(self._letters, self._database.current.write, reason=reason, device=device, ids=ids)
        finally:
            self._running.release()


def replay_letters(
    letters: DeadLetters,
    write: Callable[[bytes], WriteResult],
    *,
    reason: str | None = None,
    device: str | None = None,
    ids: Sequence[int] | None = None,
) -> Replayed:
    """Submit letters again, those `DeadLetters.list` gives. A stored one goes, one refused again keeps the new reason.

    Stops, keeping what is left, when the database cannot take them now. Blocks.

    Raises:
        sqlite3.Error: the store failed; the letter under way may be written once more.
    """
    stored, refused, after = 0, 0, 0
    newest = letters.newest()
    while after < newest:
        page = letters.list(reason=reason, device=device, ids=ids, after=after, limit=PAGE)
        if not page:
            break
        after = page[-1].n
        done = _submit(letters, write, page)
        stored, refused = stored + done.stored, refused + done.refused
        if done.stopped is not None:
            return Replayed(stored, refused, done.stopped)
    return Replayed(stored, refused)


def _submit(letters: DeadLetters, write: Callable[[bytes], WriteResult], page: Sequence[DeadLetter]) -> Replayed:
    stored, refused = 0, 0
    waiting = [page]
    while waiting:
        group = waiting.pop()
        match write(b"".join(letter.data for letter in group)):
            case Stored():
                letters.stored(group)
                stored += len(group)
            case PointRefused(kind, words) | BatchTooLarge(kind, words):
                if len(group) == 1:
                    letters.refused_again(group[0], kind, words)
                    refused += 1
                else:
                    middle = len(group) // 2
                    waiting += [group[middle:], group[:middle]]
            case RetryLater() | OperatorNeeded() as stopped:
                return Replayed(stored, refused, stopped)
    return Replayed(stored, refused)
