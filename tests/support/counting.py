"""What code does, in numbers that no machine changes: calls of Python functions, and what a loop is asked for.

The interpreter tells of every call; those of the standard library and of the tests are not counted, so that it does not
matter which event loop runs and how a test waits.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import CodeType, FrameType

STANDARD_LIBRARY = sysconfig.get_path("stdlib")
TESTS = str(Path(__file__).parents[1])


def _counts(code: CodeType) -> bool:
    path = code.co_filename
    if path.startswith(("<", TESTS)):
        return False
    return "site-packages" in path or not path.startswith(STANDARD_LIBRARY)


class Calls:
    """Counts calls while `taken` is under way, in this thread and in all that are started after construction."""

    def __init__(self) -> None:
        self._taking: Counter[CodeType] | None = None

    def __enter__(self) -> Self:
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and self._taking is not None:
            self._taking[frame.f_code] += 1

    def begin(self) -> None:
        """Count from now on."""
        self._taking = Counter()

    def end(self) -> Counter[str]:
        """Calls since `begin`, by ``file:function``."""
        taken, self._taking = self._taking or Counter(), None
        return Counter(
            {
                f"{Path(code.co_filename).name}:{code.co_qualname}": count
                for code, count in taken.items()
                if _counts(code)
            }
        )


class Asked:
    """Counts what ``loop`` is asked to make, until `restore`; ``waiting`` are the timers that may still come."""

    NAMES = ("create_task", "create_future", "call_later", "call_at", "call_soon")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.made: Counter[str] = Counter()
        self._loop = loop
        self._timers: list[asyncio.TimerHandle] = []
        for name in self.NAMES:
            setattr(loop, name, self._counting(name, getattr(loop, name)))

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.made[name] += 1
            made = method(*arguments, **options)
            if name in {"call_later", "call_at"}:
                self._timers.append(made)
            return made

        return counted

    @property
    def waiting(self) -> int:
        """Timers made here that are neither cancelled nor due."""
        now = self._loop.time()
        return sum(not timer.cancelled() and timer.when() > now for timer in self._timers)

    def restore(self) -> None:
        """Let the loop be as it was."""
        for name in self.NAMES:
            delattr(self._loop, name)
