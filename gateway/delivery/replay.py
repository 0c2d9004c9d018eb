"""The replay of dead letters: they are written to the database again, and those that it now takes are deleted.

Rules that hold here:

* A line is written unchanged. So a point that is already in the database is overwritten with itself.
* A refused group is halved until the bad point stands alone, as in a batch.
* Dead letters that are added meanwhile wait for the next replay, so that a replay ends.
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

GROUP_SIZE = 500
"""Dead letters in one write."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How many dead letters a replay stored, and how many were refused again."""

    stored: int
    refused: int
    stopped: RetryLater | OperatorNeeded | None = None
    """Why the replay ended early; None if it tried all dead letters."""


class ReplayRunning(Exception):
    """Another replay of the same dead letters is under way."""


class Replay:
    """Replays the dead letters of a running gateway to its present database, one replay at a time."""

    def __init__(self, store: DeadLetters, database: ActiveSink) -> None:
        self._store = store
        self._database = database
        # Held while a replay runs.
        self._running = threading.Lock()

    def run(
        self, *, reason: str | None = None, device: str | None = None, ids: Sequence[int] | None = None
    ) -> ReplayResult:
        """As `replay_dead_letters`. Blocks.

        Raises:
            ReplayRunning: another replay is under way; nothing was done.
            sqlite3.Error: as `replay_dead_letters`.
        """
        if not self._running.acquire(blocking=False):
            raise ReplayRunning
        try:
            write = self._database.current.write
            return replay_dead_letters(self._store, write, reason=reason, device=device, ids=ids)
        finally:
            self._running.release()


def replay_dead_letters(
    store: DeadLetters,
    write: Callable[[bytes], WriteResult],
    *,
    reason: str | None = None,
    device: str | None = None,
    ids: Sequence[int] | None = None,
) -> ReplayResult:
    """Replay the dead letters that `DeadLetters.list` gives. Blocks.

    A dead letter that is stored is deleted; one that is refused again gets the new reason. Stops early, and keeps
    the rest, if the database cannot take them now.

    Raises:
        sqlite3.Error: the store failed; the group under way may be written once more by the next replay.
    """
    stored, refused, after = 0, 0, 0
    newest = store.newest()
    while after < newest:
        group = store.list(reason=reason, device=device, ids=ids, after=after, limit=GROUP_SIZE)
        if not group:
            break
        after = group[-1].n
        done = _replay_group(store, write, group)
        stored, refused = stored + done.stored, refused + done.refused
        if done.stopped is not None:
            return ReplayResult(stored, refused, done.stopped)
    return ReplayResult(stored, refused)


def _replay_group(
    store: DeadLetters, write: Callable[[bytes], WriteResult], dead_letters: Sequence[DeadLetter]
) -> ReplayResult:
    stored, refused = 0, 0
    waiting = [dead_letters]
    while waiting:
        group = waiting.pop()
        match write(b"".join(letter.data for letter in group)):
            case Stored():
                store.stored(group)
                stored += len(group)
            case PointRefused(kind, text) | BatchTooLarge(kind, text):
                if len(group) == 1:
                    store.refused_again(group[0], kind, text)
                    refused += 1
                else:
                    middle = len(group) // 2
                    waiting += [group[middle:], group[:middle]]
            case RetryLater() | OperatorNeeded() as stopped:
                return ReplayResult(stored, refused, stopped)
    return ReplayResult(stored, refused)
