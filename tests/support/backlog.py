"""Builds the spool that a long outage of the database leaves, of any size, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ledger import Entry, Ledger
from gateway.spool.files import File, Files
from gateway.spool.log import Log
from gateway.state import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2
SEGMENT_BYTES = 64 * MIB
ENTRIES = 40
"""Messages in a group commit: 8,000 a second in commits of 5 ms."""
DEVICES = 400
FIRST_NS = 1_700_000_000_000_000_000


class Unsynced(File):
    """Skips every sync: no test here depends on durability."""

    def sync(self) -> None:
        pass


class UnsyncedFiles(Files):
    def create(self, path: Path) -> File:
        made = super().create(path)
        return Unsynced(made._descriptor, path)


def build(directory: Path, size: int, readings: int) -> int:
    """Make ``spool`` and ``state`` below ``directory``, with ``size`` bytes of messages of ``readings`` each.

    As after a crash, the checkpoint is from the moment when the last full segment was sealed. Returns the number of
    undelivered readings.
    """
    for name in ("spool", "state"):
        (directory / name).mkdir(parents=True)
    files, ledger = UnsyncedFiles(), Ledger()
    log = Log(files, directory / "spool", SEGMENT_BYTES)
    list(log.recover(0, 0))
    log.start()
    count = sealed = 0
    while log.total_bytes < size:
        entries = []
        for n in range(ENTRIES):
            device = f"dev-{(log.last_id * ENTRIES + n) % DEVICES}"
            lines = [
                b"telemetry,device=%s temp=21.53,hum=40.1 %d\n" % (device.encode(), FIRST_NS + (count + at) * 1_000_000)
                for at in range(readings)
            ]
            entries.append(Entry(device, "b", log.last_id, lines=readings, payload=b"".join(lines)))
            count += readings
        ledger.committed(log.append(entries, FIRST_NS).record_id, entries)
        if len(log.sealed()) > sealed:
            sealed = len(log.sealed())
            write_checkpoint = checkpoint.writer(ledger, directory / "state/ledger.json", files)
            write_checkpoint()
    log.close()
    return count
