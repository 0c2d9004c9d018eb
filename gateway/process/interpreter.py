"""The interpreter of the process that serves, set up for many long-lived objects and one thread that must not wait.

docs/explanation/decisions.md says what the numbers were measured to be worth.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GC_THRESHOLDS = (5_000, 10, 20)
"""New containers until the youngest are collected, and how many collections of one age until those of the next."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that wants to run gets its turn: the commit's, beside a busy event loop."""


@contextlib.contextmanager
def tuned_to_serve() -> Iterator[None]:
    """Enter once everything is built; at the end the interpreter is as it was."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
