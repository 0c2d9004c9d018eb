from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from gateway.cli.output import span
from gateway.ledger import Entry, Kind
from gateway.spool.cursor import Cursor
from gateway.spool.files import Files
from gateway.spool.log import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cli import Command

SEGMENT_BYTES = 4096


class Spool:
    """Writes what a gateway would."""

    def __init__(self, gateway: Command) -> None:
        self.directory = gateway.directory / "spool"
        self.directory.mkdir()
        self._log = Log(Files(), self.directory, SEGMENT_BYTES)
        assert list(self._log.recover(0, 0)) == []
        self._log.start()

    def append(self, entries: Sequence[Entry], seconds_ago: float = 10) -> int:
        """Commit a record; its size."""
        return self._log.append(entries, time.time_ns() - int(seconds_ago * 1e9)).size

    def deliver(self, record_id: int) -> None:
        cursor = Cursor(Files(), self.directory)
        cursor.store(record_id)
        cursor.close()


@pytest.fixture
def spool(gateway: Command) -> Spool:
    return Spool(gateway)


def reading(device: str, seq: int, *lines: str, **more: int) -> Entry:
    payload = "".join(f"{line}\n" for line in lines).encode()
    return Entry(device, "b1", seq=seq, lines=len(lines), payload=payload, **more)


def test_status_counts_what_waits(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m f=1 1", "m f=2 2")], 100)
    size = spool.append([reading("a", 2, "m f=3 3"), reading("b", 1, *[f"m f=1 {n}" for n in range(8)])], 50)
    size += spool.append([reading("a", 3, "m f=4 4")], 40)
    spool.deliver(1)
    status = gateway.json("spool", "status")
    assert (status["readings_waiting"], status["bytes_waiting"]) == (10, size)
    assert status["oldest"] is not None
    assert status["readings_per_second"] == pytest.approx(12 / 100, rel=0.1)
    assert status["minutes_waiting"] == pytest.approx(10 / (12 / 100) / 60, rel=0.1)
    left = status["max_bytes"] - size
    assert status["minutes_until_full"] == pytest.approx(left / status["bytes_per_second"] / 60, rel=0.1)
    assert status["segments"] == 1
    assert status["bytes_on_disk"] == sum(path.stat().st_size for path in spool.directory.glob("*.seg"))
    shown = gateway("spool", "status").stdout
    assert f"10 readings, {size} bytes" in shown
    assert "1GiB" in shown
    assert f"full at this rate in  {span(status['minutes_until_full'])}" in shown


def test_status_knows_the_rate_of_what_was_delivered(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m f=1 1", "m f=2 2")], 20)
    spool.deliver(1)
    status = gateway.json("spool", "status")
    assert (status["readings_waiting"], status["oldest"], status["minutes_waiting"]) == (0, None, 0)
    assert status["readings_per_second"] == pytest.approx(0.1, rel=0.1)


def test_status_without_a_present_rate(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m f=1 1")], 3600)
    status = gateway.json("spool", "status")
    assert status["readings_waiting"] == 1
    assert status["readings_per_second"] == 0
    assert status["minutes_waiting"] is status["minutes_until_full"] is None


def test_there_may_be_no_spool_yet(gateway: Command) -> None:
    for command in ("status", "verify", "dump"):
        result = gateway("spool", command)
        assert result.exit_code == 0
        assert result.stderr.startswith("there is no spool yet: no directory ")
    assert gateway.json("spool", "verify") == []
    assert not (gateway.directory / "spool").exists()


def test_verify_reads_every_record(gateway: Command, spool: Spool) -> None:
    for n in range(40):
        spool.append([reading("a", n, *[f"m f=1 {line}" for line in range(20)])])
    spool.deliver(30)
    result = gateway("spool", "verify")
    segments = len(list(spool.directory.glob("*.seg")))
    assert segments > 2
    assert result.exit_code == 0
    assert result.stdout == f"40 records with 800 readings in {segments} segments are good, 0 places are damaged\n"
    reports = gateway.json("spool", "verify")
    assert [report["path"] for report in reports] == sorted(map(str, spool.directory.glob("*.seg")))
    assert sum(report["records"] for report in reports) == 40
    assert all(report["damage"] == [] for report in reports)


def test_verify_says_where_damage_is(gateway: Command, spool: Spool) -> None:
    for n in range(40):
        spool.append([reading("a", n, *[f"m f=1 {line}" for line in range(20)])])
    oldest = min(spool.directory.glob("*.seg"))
    data = bytearray(oldest.read_bytes())
    data[700] ^= 1
    oldest.write_bytes(data)
    result = gateway("spool", "verify", "--json")
    assert result.exit_code == 1
    report, *others = json.loads(result.stdout)
    assert report["path"] == str(oldest)
    (damage,) = report["damage"]
    assert damage["offset"] <= 700 < damage["offset"] + damage["length"]
    assert damage["reason"]
    assert not any(other["damage"] for other in others)
    shown = gateway("spool", "verify")
    assert shown.exit_code == 1
    assert str(oldest) in shown.stdout
    assert "39 records" in shown.stdout


def test_an_unfinished_write_is_no_damage(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m f=1 1")])
    newest = max(spool.directory.glob("*.seg"))
    with newest.open("ab") as file:
        file.write(b"half a rec")
    result = gateway("spool", "verify")
    assert result.exit_code == 0
    assert "0 places are damaged, 10 bytes at the end are unfinished" in result.stdout
    assert gateway.json("spool", "verify")[0]["unfinished_bytes"] == 10


def test_dump_prints_the_points_that_wait(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m,device=a f=1 1")])
    spool.append([reading("a", 2, 'm,device=a s="two\nlines ü" 2', "m,device=a f=1 3"), reading("b", 1, "m f=1 4")])
    spool.deliver(1)
    assert gateway("spool", "dump").stdout == 'm,device=a s="two\nlines ü" 2\nm,device=a f=1 3\nm f=1 4\n'
    assert gateway("spool", "dump", "--device", "b").stdout == "m f=1 4\n"
    assert gateway("spool", "dump", "--all", "--device", "a").stdout.startswith("m,device=a f=1 1\n")


def test_dump_as_json_has_the_counts_of_every_message(gateway: Command, spool: Spool) -> None:
    spool.append([reading("a", 1, "m f=1 1")])
    presence = Entry("a", kind=Kind.PRESENCE, lines=1, payload=b"device_status connected=true 1\n")
    verdicts = Entry("a", "b1", seq=2, rejected=2, verdicts=b'[{"index":0}]')
    spool.append([reading("a", 3, 'm s="x\ny" 2', "m f=2 3", duplicate=1, gaps=4), verdicts, presence])
    spool.deliver(1)
    lines = [json.loads(line) for line in gateway("spool", "dump", "--all", "--json").stdout.splitlines()]
    assert [(line["record"], line["delivered"], line["kind"]) for line in lines] == [
        (1, True, "readings"),
        (2, False, "readings"),
        (2, False, "readings"),
        (2, False, "presence"),
    ]
    assert lines[1]["points"] == ['m s="x\ny" 2', "m f=2 3"]
    assert {key: lines[1][key] for key in ("seq", "boot", "lines", "duplicate", "rejected", "gaps")} == {
        "seq": 3, "boot": "b1", "lines": 2, "duplicate": 1, "rejected": 0, "gaps": 4,
    }  # fmt: skip
    assert (lines[2]["rejected"], lines[2]["verdicts"], lines[2]["points"]) == (2, '[{"index":0}]', [])
    assert lines[3]["seq"] is None


def test_dump_goes_on_behind_damage(gateway: Command, spool: Spool) -> None:
    for n in range(3):
        spool.append([reading("a", n, f"m f={n} {n}")])
    (segment,) = spool.directory.glob("*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"f=1 1", b"f=9 1"))
    assert gateway("spool", "dump").stdout == "m f=0 0\nm f=2 2\n"
