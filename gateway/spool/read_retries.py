"""How often a place that the disk cannot read is tried before it is taken for damage.

Rules that hold here:

* A place is where a run of records begins, up to where the failed read would have ended.
* It outlives the readers: who begins to read again at an earlier record meets the same places, and whoever gives each
  of them its tries anew, as it comes to it, never gets past two of them.
* What was given up stays so until its segment goes. A place that answers before that has all its tries again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


class ReadRetries:
    """``tries`` for each place. One thread at a time."""

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._failed: Counter[tuple[Path, int]] = Counter()
        self._last: tuple[Path, int] | None = None
        self._given_up: dict[tuple[Path, int], int] = {}

    def is_exhausted(self, path: Path, start: int, end: int) -> bool:
        """Whether the bytes from ``start`` to ``end``, which could not be read, are damage now."""
        if any(path == other and at <= start < until for (other, at), until in self._given_up.items()):
            return True
        self._last = path, start
        if self._failed[self._last] < self._tries:
            return False
        self._given_up[self._last] = end
        return True

    def count_failure(self) -> None:
        """The last place asked for has failed one who waits before he tries again."""
        if self._last is not None:
            self._failed[self._last] += 1

    def forget(self, path: Path, start: int) -> None:
        """What begins there could be read, or is passed."""
        self._failed.pop((path, start), None)

    def keep_only(self, paths: Container[Path]) -> None:
        """Forget what is not in these files."""
        self._failed = Counter({place: count for place, count in self._failed.items() if place[0] in paths})
        self._given_up = {place: until for place, until in self._given_up.items() if place[0] in paths}
