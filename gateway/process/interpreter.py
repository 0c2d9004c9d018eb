"""Sets up the Python interpreter for many long-lived objects, and for one thread that must not wait.

docs/explanation/decisions.md says what these numbers were measured to be worth.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GC_THRESHOLDS = (5_000, 10, 20)
"""Containers made until the youngest generation is collected, and collections of a generation until the next older."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which a waiting thread may run: the thread of the commit, beside a busy event loop."""


@contextlib.contextmanager
def tuned_to_serve() -> Iterator[None]:
    """Enter it when everything is built. At the end the interpreter is as it was before."""
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
