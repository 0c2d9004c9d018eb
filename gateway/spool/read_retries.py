"""How often the spool reads a place that the disk cannot read before the place counts as damage.

Rules that hold here:

* A place is where a run of records begins, up to where the failed read would have ended.
* Retry counts outlive a reader. A reader that restarts at an earlier record meets the same places; if each of them had
  all its tries again, it would never pass two bad places.
* A place that was given up stays given up until its segment is removed. A place that can be read before that has all
  its tries again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


class ReadRetries:
    """``tries`` for each place. Used by one thread at a time."""

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._failed: Counter[tuple[Path, int]] = Counter()
        """Failed reads of each place, which is its file and its offset."""
        self._last: tuple[Path, int] | None = None
        """The place of the last failed read; `count_failure` counts for it."""
        self._given_up: dict[tuple[Path, int], int] = {}
        """The end offset of each place that counts as damage."""

    def is_exhausted(self, path: Path, start: int, end: int) -> bool:
        """Whether the bytes from ``start`` to ``end``, which could not be read, count as damage now."""
        if any(path == other and at <= start < until for (other, at), until in self._given_up.items()):
            return True
        self._last = path, start
        if self._failed[self._last] < self._tries:
            return False
        self._given_up[self._last] = end
        return True

    def count_failure(self) -> None:
        """Count a failed read of the last place. Called once per read by a caller that waits before it tries again."""
        if self._last is not None:
            self._failed[self._last] += 1

    def forget(self, path: Path, start: int) -> None:
        """Forget the failures of a place that could be read or was passed."""
        self._failed.pop((path, start), None)

    def keep_only(self, paths: Container[Path]) -> None:
        """Forget the places in all other files."""
        self._failed = Counter({place: count for place, count in self._failed.items() if place[0] in paths})
        self._given_up = {place: until for place, until in self._given_up.items() if place[0] in paths}
