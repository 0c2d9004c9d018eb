"""``python -m benchmarks.stages``: CPU of each stage that a message of 50 readings goes through in the gateway.

Every stage gets what the one before it made, in this process and from memory; figures are the best of several rounds.
Against the suite's batch case, sockets, files and the switching of threads are missing.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import orjson

from benchmarks.messages import FORMS
from gateway.config.sections import ProfileSection
from gateway.delivery.pipeline import Pipeline
from gateway.ledger import Ledger
from gateway.protocol import codec
from gateway.protocol.encoder import Encoder
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes
from gateway.protocol.messages import Readings
from gateway.sinks.influxdb.idle_shards import RecentHours, hours_of
from gateway.spool import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.batch import Batch
    from gateway.ledger import Entry
    from gateway.spool.record import Record

MESSAGES = 1000
PER_COMMIT = 20
ROUNDS = 7


def stage(name: str, work: Callable[[], object]) -> None:
    """Print what one message costs in ``work``, which handles `MESSAGES` of them."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        best = min(best, time.thread_time() - began)
    print(f"| {name} | {best / MESSAGES * 1e6:.1f} |", flush=True)


def long_way(encoder: Encoder, messages: list[bytes], now_ns: int) -> list[Entry]:
    entries = []
    for seq, data in enumerate(messages):
        message = codec.decode(data)
        assert isinstance(message, Readings)
        entries.append(encoder.encode(message, now_ns).entry(now_ns, "b", seq))
    return entries


def short_way(encoder: Encoder, messages: list[bytes], now_ns: int) -> None:
    for seq, data in enumerate(messages):
        message = encoder.recognised(data, now_ns)
        assert message is not None
        encoder.encode(message, now_ns).entry(now_ns, "b", seq)


def records_of(entries: list[Entry]) -> bytes:
    commits = range(0, MESSAGES, PER_COMMIT)
    return b"".join(record.encode(1 + at, 1, entries[at : at + PER_COMMIT]) for at in commits)


def read(data: bytes) -> list[Record]:
    records, _ = record.decode_run(data, 0, 1)
    for each in records:
        _ = each.entries
    return records


def delivered(records: list[Record]) -> list[Batch]:
    pipeline, batches = Pipeline(5000, 1_000_000), []
    for each in records:
        pipeline.add(each, 0.0)
    pipeline.flush()
    while pipeline.ready:
        batches.append(pipeline.take())
        pipeline.stored(batches[-1])
    list(pipeline.progress.take_finished())
    return batches


def counted(records: list[Record]) -> None:
    ledger = Ledger()
    for each in records:
        ledger.committed(each.id, each.entries)
        ledger.delivered(each.id, each.entries, {})


def looked_at(hours: RecentHours, batches: list[Batch]) -> None:
    for batch in batches:
        found = hours_of(batch.lines)
        hours.cold(batch.lines, found)
        hours.wrote(found)


def main() -> None:
    now_ns, rng = time.time_ns(), random.Random(1)
    profile = ProfileSection()
    encoder = Encoder("device-0001", profile, {}, Rulebook(FieldTypes()))
    body = FORMS["batch"].body
    messages = [orjson.dumps(body(rng, seq, now_ns // 1_000_000)) for seq in range(MESSAGES)]
    long_way(encoder, messages[:2], now_ns)
    print("| stage | CPU us a message of 50 |\n|---|---|")
    stage("read and encode, of a known shape", lambda: short_way(encoder, messages, now_ns))
    stage("read and encode, any other", lambda: long_way(encoder, messages, now_ns))
    entries = long_way(encoder, messages, now_ns)
    stage("write a record", lambda: records_of(entries))
    data = records_of(entries)
    stage("read a record", lambda: read(data))
    records = read(data)
    stage("count in the ledger, twice", lambda: counted(records))
    stage("make batches", lambda: delivered(records))
    batches, hours = delivered(records), RecentHours()
    looked_at(hours, batches)
    stage("look for idle shards (InfluxDB 1 and 2)", lambda: looked_at(hours, batches))


if __name__ == "__main__":
    main()
