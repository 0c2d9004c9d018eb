"""``python -m benchmarks.spool``: the spool by itself: CPU to encode, commits a second, reading, recovery.

Every figure is of one process on the disk of ``--directory``. Encoding and reading are CPU; commits are the disk's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.ledger import Entry, Ledger
from gateway.spool import record
from gateway.spool.files import File, Files
from gateway.spool.log import Log
from gateway.spool.queue import SpoolQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024**2
SEGMENT_BYTES = 64 * MIB


def entries(count: int, number: int = 0) -> list[Entry]:
    """Messages of one reading with two fields, each from another device."""
    made = []
    for device in range(number * count, (number + 1) * count):
        name = f"device-{device % 2000:05d}"
        point = f"telemetry,device={name} hum=40.25,temp=21.5 17000001231230{device % 100_000:05d}\n"
        made.append(Entry(name, "b-8f3a12", number, 1, payload=point.encode(), arrived_ns=time.time_ns()))
    return made


class Unsynced(File):
    """Skips every sync, so that a gigabyte is made in seconds."""

    def sync(self) -> None: ...


class QuickFiles(Files):
    def create(self, path: Path) -> File:
        file = super().create(path)
        return Unsynced(file._descriptor, path)  # noqa: SLF001 - the same file, but for its sync


class Counts:
    """A listener that only keeps a ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.seconds: list[float] = []

    def recovered(self, record_id: int, _ns: int, found: list[Entry], _delivered: object) -> None:
        self.ledger.committed(record_id, found)

    def committed(self, record_id: int, _ns: int, items: list[tuple[Entry, object]], seconds: float) -> None:
        self.seconds.append(seconds)

    def append_failed(self, items: list[Any], error: BaseException) -> None:
        raise error

    def checkpoint(self) -> Callable[[], None]:
        return lambda: None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def queue_in(directory: Path, listener: Counts) -> SpoolQueue:
    return SpoolQueue(
        directory,
        commit_interval=0.005,
        segment_bytes=SEGMENT_BYTES,
        max_bytes=8192 * MIB,
        when_full="reject",
        keep_delivered=3600,
        listener=listener,  # type: ignore[arg-type]
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def cpu(work: Callable[[], object], times: int) -> float:
    """Seconds of CPU for one call, the best of five."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - started)
    return best / times


def encoding() -> Iterator[str]:
    for count in 1, 50, 500:
        batch = entries(count)
        data = record.encode(1, 2, batch)
        made = cpu(lambda: record.encode(1, 2, batch), 20_000 // count) / count  # noqa: B023
        read = cpu(lambda: record.decode_run(data, 0, 0)[0][0].entries, 20_000 // count) / count  # noqa: B023
        yield (
            f"commit of {count:3d}: encode {made * 1e6:.2f} us, decode {read * 1e6:.2f} us an entry "
            f"of {len(data) / count:.0f} bytes"
        )


def begun(files: Files, directory: Path) -> Log:
    directory.mkdir()
    log = Log(files, directory, SEGMENT_BYTES)
    for _ in log.recover(0, 0):
        pass
    log.start()
    return log


def appending(directory: Path) -> Iterator[str]:
    log = begun(Files(), directory)
    for count in 1, 50, 500:
        batch, taken = entries(count), []
        for _ in range(500):
            started = time.perf_counter()
            log.append(batch, 0)
            taken.append(time.perf_counter() - started)
        yield (
            f"append + fdatasync of {count:3d}: {len(taken) / sum(taken):.0f} a second, "
            f"median {percentile(taken, 0.5) * 1e3:.2f} ms, 99 % {percentile(taken, 0.99) * 1e3:.2f} ms"
        )
    log.close()


async def commits_beside_reads(directory: Path) -> str:
    """Commit latency of a steady load, alone and while the whole backlog is read."""
    counts = Counts()
    queue = queue_in(directory, counts)
    queue.open()
    queue.start()

    async def load(seconds: float) -> list[float]:
        counts.seconds = []
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            for entry in entries(20, number):
                queue.append(entry, None)
            number += 1
            await asyncio.sleep(0.005)
        return counts.seconds

    async def read() -> None:
        after = 0
        while True:
            records = await queue.read(after, MIB)
            after = records[-1].id if records else after
            await queue.acknowledge(after)

    alone = await load(3)
    reading = asyncio.create_task(read())
    beside = await load(3)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await queue.close()
    return (
        f"commit alone: median {percentile(alone, 0.5) * 1e3:.2f} ms, 99 % {percentile(alone, 0.99) * 1e3:.2f} ms; "
        f"beside reads: median {percentile(beside, 0.5) * 1e3:.2f} ms, 99 % {percentile(beside, 0.99) * 1e3:.2f} ms"
    )


def filled(directory: Path, count: int, size: int) -> int:
    """Make a spool of ``size`` bytes in commits of ``count`` entries. Returns the number of records."""
    log = begun(QuickFiles(), directory)
    batches = [entries(count, number) for number in range(50)]
    while log.total_bytes < size:
        log.append(batches[log.last_id % len(batches)], time.time_ns())
    log.close()
    os.sync()  # or the first fdatasync of what is measured would have to write all of it
    return log.last_id


def reading(directory: Path, last_id: int) -> str:
    log = Log(Files(), directory, SEGMENT_BYTES)
    for _ in log.recover(last_id, last_id):
        pass
    started = time.perf_counter()
    size = sum(item.size for item in log.reader(0).items(log.segments()) if isinstance(item, record.Record))
    seconds = time.perf_counter() - started
    return f"read {size / MIB:.0f} MiB in {seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s"


def recovering(directory: Path, committed_to: int) -> str:
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = Counts()
    queue = queue_in(directory, counts)
    started = time.perf_counter()
    recovery = queue.open(committed_to, 0)
    seconds = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    asyncio.run(queue.close())
    return (
        f"open in {seconds:.2f} s: {recovery.records} records, {counts.ledger.total.received} readings counted again, "
        f"peak memory + {grown / 1024:.1f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spool", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    parser.add_argument("--mib", type=int, default=1024, help="size of the spool that is read and recovered")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="spool-", dir=options.directory))
    try:
        for line in encoding():
            print(line)
        for line in appending(root / "append"):
            print(line)
        for count in 50, 1:
            directory = root / f"of-{count}"
            last_id = filled(directory, count, options.mib * MIB)
            print(f"spool of {options.mib} MiB in {last_id} commits of {count}")
            print("  " + reading(directory, last_id))
            last_segment = max(int(path.stem) for path in directory.glob("*.seg"))
            for what, mark in ("up to the last segment", last_segment), ("lost", 0):
                print(f"  checkpoint {what}: " + recovering(directory, mark))
            if count > 1:
                for interval in 0.005, 0.0005:
                    sys.setswitchinterval(interval)
                    print(
                        f"  threads switch after {interval * 1e3} ms: " + asyncio.run(commits_beside_reads(directory))
                    )
            shutil.rmtree(directory)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
