"""``python -m benchmarks.harness.observed REPORT SETTING run --config FILE``: a gateway that notes its gc pauses.

SETTING is ``stock``, ``shipped``, or ``GEN0,GEN1,GEN2,SWITCH`` to try others. REPORT is written at the end: for each
generation how many collections, and their CPU in all and at most: what they hold up on a core of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import time
from pathlib import Path

import orjson

from gateway.cli import cli
from gateway.process import interpreter as process
from gateway.process import run as serving


class Pauses:
    """Times every collection."""

    def __init__(self) -> None:
        self._began = 0.0
        self.seconds: dict[int, list[float]] = {0: [], 1: [], 2: []}

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.seconds[info["generation"]].append(time.thread_time() - self._began)

    def write(self, path: Path) -> None:
        """Write what was seen."""
        shown = {
            f"gen{age}": {"count": len(all_), "total_s": round(sum(all_), 3), "longest_ms": round(max(all_) * 1000, 1)}
            for age, all_ in self.seconds.items()
            if all_
        }
        path.write_bytes(orjson.dumps(shown))


def main() -> None:
    """Serve."""
    report, setting, *arguments = sys.argv[1:]
    if setting == "stock":
        serving.tuned_to_serve = contextlib.nullcontext  # type: ignore[attr-defined,assignment]
    elif setting != "shipped":
        *thresholds, interval = setting.split(",")
        process.GC_THRESHOLDS = tuple(map(int, thresholds))  # type: ignore[assignment]
        process.SWITCH_INTERVAL = float(interval)
    pauses = Pauses()
    gc.callbacks.append(pauses)
    atexit.register(pauses.write, Path(report))
    cli(arguments, prog_name="gateway")


if __name__ == "__main__":
    main()
