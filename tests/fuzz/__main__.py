"""Fuzzes for a while: ``python -m tests.fuzz --seconds 600 [--target cbor]``.

The time is shared among the targets. What is found is made small, printed, written to ``tests/fuzz/corpus/TARGET`` (so
that it is a vector from then on), and ends the run with 1. A seed is printed, and ``--seed`` takes it again.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import click
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.inputs import CORPUS, inputs, variants
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 50
QUIET = settings(
    max_examples=BATCH,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),  # `smallest` knows what it shrinks
)


@dataclass
class Run:
    """One target's run: how often it was called, the slowest call in s of CPU, and the last input that failed."""

    target: Callable[[bytes], None]
    calls: int = 0
    slowest: float = 0.0
    failing: bytes | None = None

    def __call__(self, data: bytes) -> None:
        """Run the target on one input."""
        started = time.thread_time()
        self.calls += 1
        try:
            self.target(data)
        except Exception:
            self.failing = data
            raise
        self.slowest = max(self.slowest, time.thread_time() - started)


def fuzz(name: str, seconds: float, rng: random.Random, target: Callable[[bytes], None] | None = None) -> Run:
    """Run a target for a while, or until something is found: then ``failing`` is the smallest input for it."""
    run = Run(target or TARGETS[name])
    end = time.monotonic() + seconds
    while run.failing is None and time.monotonic() < end:

        @seed(rng.getrandbits(64))
        @QUIET
        @given(inputs(name))
        def batch(start: tuple[bytes, int]) -> None:
            for data in variants(name, *start):
                run(data)

        try:
            batch()
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            traceback.print_exc()
    if run.failing is not None:
        run.failing = smallest(run.target, run.failing)
    return run


def smallest(target: Callable[[bytes], None], data: bytes) -> bytes:
    """What is left of ``data`` when no piece can be taken away without the failure going, too."""
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            if _fails(target, less):
                data = less
            else:
                at += size
        size //= 2
    return data


def _fails(target: Callable[[bytes], None], data: bytes) -> bool:
    try:
        target(data)
    except Exception:  # noqa: BLE001 - any other failure is as good
        return True
    return False


@click.command()
@click.option("--seconds", default=60.0, help="For all targets together.")
@click.option("--target", "names", multiple=True, type=click.Choice(list(TARGETS)), help="These only.")
@click.option("--seed", "start", type=int, help="Of an earlier run.")
def main(seconds: float, names: tuple[str, ...], start: int | None) -> None:
    """Fuzz what takes bytes from outside."""
    chosen = names or tuple(TARGETS)
    start = random.randrange(2**32) if start is None else start
    rng = random.Random(start)
    print(f"seed {start}")
    total, found = 0, 0
    for name in chosen:
        run = fuzz(name, seconds / len(chosen), rng)
        total += run.calls
        print(f"{name:8} {run.calls:9,} inputs, slowest {run.slowest * 1000:.1f} ms", flush=True)
        if run.failing is not None:
            found += 1
            path = CORPUS / name / f"found-{sha256(run.failing).hexdigest()[:12]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(run.failing)
            print(f"         FOUND {run.failing!r}, kept as {path}", flush=True)
    print(f"{total:,} inputs, {found} findings")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
