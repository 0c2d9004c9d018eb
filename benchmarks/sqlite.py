"""``python -m benchmarks.sqlite``: the embedded database by itself: readings a second, summaries included.

A reading is one line: one device, one timestamp, and as many fields as the table says. Lines go through
`SqliteSink.write` in batches of 5,000 from four threads, as the gateway sends them, onto the disk of ``--directory``
with a sync for every commit, in an interpreter set up like the gateway's. The devices' clock runs with the data, so
hours end and are summarised meanwhile; the time counts until the last one that has ended is.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.delivery.write_result import Stored
from gateway.process.interpreter import tuned_to_serve
from gateway.sinks.sqlite import SqliteSink

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 5000
THREADS = 4
START = 1_700_000_000 * 1_000_000_000
SECOND = 1_000_000_000
INTERVAL = 5 * SECOND
FLEETS = ((2000, 1, 1), (2000, 4, 1), (2000, 4, 50), (10, 4, 1))
"""Devices, fields of a reading, and readings that a device sends at once."""
COLUMNS = (
    "devices",
    "fields",
    "at once",
    "readings/s",
    "values/s",
    "readings/s until written",
    "CPU us a reading",
    "longest write, ms",
    "bytes a reading",
)


class Data:
    """Batches of a fleet whose devices read once in `INTERVAL`, and the clock that runs with them."""

    def __init__(self, devices: int, fields: int, block: int = 1) -> None:
        self._devices = devices
        self._fields = fields
        self._block = block
        self.now_ns = START

    def clock(self) -> int:
        return self.now_ns

    def batches(self, count: int) -> list[bytes]:
        return ["".join(self._line(number * BATCH + at) for at in range(BATCH)).encode() for number in range(count)]

    def _line(self, number: int) -> str:
        message, sample = divmod(number, self._block)
        turn, device = divmod(message, self._devices)
        turn = turn * self._block + sample
        pairs = ",".join(f"field{at}={20 + (number * 7 + at) % 1000 / 100}" for at in range(self._fields))
        time_ns = START + turn * INTERVAL + device * INTERVAL // self._devices
        return f"telemetry,device=device-{device:05d},site=attic {pairs} {time_ns}\n"

    def sent(self, lines: bytes) -> None:
        self.now_ns = int(lines[lines.rindex(b" ") : -1])


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write_all(sink: SqliteSink, data: Data, batches: list[bytes]) -> float:
    """Seconds of the longest write."""
    longest = 0.0

    def write(lines: bytes) -> None:
        nonlocal longest
        began = time.perf_counter()
        assert sink.write(lines) == Stored()
        longest = max(longest, time.perf_counter() - began)
        data.sent(lines)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, batches))
    return longest


def ingestion(directory: Path, devices: int, fields: int, block: int, count: int) -> str:
    data = Data(devices, fields, block)
    batches = data.batches(count // BATCH)
    path = directory / f"{devices}-{fields}-{block}.db"
    sink = SqliteSink(path, retention=30 * 86400.0, clock_ns=data.clock)
    began, used = time.perf_counter(), cpu()
    longest = write_all(sink, data, batches)
    written = time.perf_counter() - began
    while sink.roll_up():
        pass
    took, used = time.perf_counter() - began, cpu() - used
    size = path.stat().st_size
    sink.close()
    readings = len(batches) * BATCH
    rates = (readings / took, readings * fields / took, readings / written)
    return (
        f"| {devices:,} | {fields} | {block} | {' | '.join(f'{rate:,.0f}' for rate in rates)} "
        f"| {used / readings * 1e6:.1f} | {longest * 1e3:.0f} | {size / readings:.0f} |"
    )


async def lag_while(seconds: float, *, busy: bool, beside: threading.Thread | None) -> Iterator[float]:
    """How late a loop wakes that should wake every millisecond, in seconds; a busy one works half of the time."""
    late = []
    if beside is not None:
        beside.start()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end and (beside is None or beside.is_alive()):
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
        until = time.perf_counter() + 0.001
        while busy and time.perf_counter() < until:
            pass
    return iter(sorted(late))


def loop_lag(directory: Path, count: int) -> Iterator[str]:
    for busy in False, True:
        for writing in False, True:
            data = Data(2000, 4)
            sink = SqliteSink(directory / f"lag-{busy}-{writing}.db", clock_ns=data.clock)
            batches = data.batches(count // BATCH) if writing else []
            began = time.perf_counter()
            beside = threading.Thread(target=write_all, args=(sink, data, batches)) if writing else None
            late = list(asyncio.run(lag_while(3 if not writing else 60, busy=busy, beside=beside)))
            if beside is not None:
                beside.join()
            rate = len(batches) * BATCH / (time.perf_counter() - began)
            sink.close()
            p50, p99, most = (late[int(share * (len(late) - 1))] * 1e3 for share in (0.5, 0.99, 1.0))
            yield (f"| {'half busy' if busy else 'idle'} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {most:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sqlite", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", default="/var/tmp", help="on the disk to sync to")
    parser.add_argument("--readings", type=int, default=2_000_000, help="of each fleet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-sqlite-", dir=options.directory) as scratch, tuned_to_serve():
        directory = Path(scratch)
        print(f"| {' | '.join(COLUMNS)} |")
        print("|" + "---|" * len(COLUMNS))
        for devices, fields, block in FLEETS:
            print(ingestion(directory, devices, fields, block, options.readings), flush=True)
        print("\n| event loop | readings/s stored meanwhile | lag ms p50 | p99 | most |")
        print("|" + "---|" * 5)
        for line in loop_lag(directory, options.readings // 4):
            print(line, flush=True)


if __name__ == "__main__":
    main()
