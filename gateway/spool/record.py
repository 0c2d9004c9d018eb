"""The bytes of a record: one group commit, its entries and their points.

Rules that hold here:

* Pure: bytes in, bytes out. `segment` keeps them in files.
* A record counts only if both checksums fit: one over the header, so that its length can be trusted before it is used,
  one over the body.
* A record begins with a byte that does not occur in UTF-8. Payloads and names are UTF-8, so no string from a device can
  be mistaken for a record when a reader looks for the next one behind damage.
* Each entry begins with its number and a `key` of its device and number: one message can be found in gigabytes by
  looking for these sixteen bytes (`needle`). Each hit has to be decoded to be sure.

docs/reference/files.md draws the layout.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

from gateway.errors import SpoolError
from gateway.ledger import READINGS, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"\xffTGR"
_START = struct.Struct("<4sI")
_FIELDS = struct.Struct("<QqIIIII")
_HEADER = struct.Struct("<4sIQqIIIII")
HEADER_BYTES = _HEADER.size
_ENTRY = struct.Struct("<qQqQIIIIIHHB")
ENTRY_BYTES = _ENTRY.size
MAX_BODY_BYTES = 64 * 1024**2
"""A header with a larger length is damage; its length is not allocated. The queue's commits stay far below."""

_NEEDLE = struct.Struct("<qQ")

_KINDS = tuple(Kind)
_KEY_BITS = 2**64 - 1
# Odd and without a pattern: the bytes of neighbouring numbers' keys have nothing in common, which is what makes a
# search for one of them quick.
_DEVICE_FACTOR = 0x9E3779B97F4A7C15
_SEQ_FACTOR = 0xD6E8FEB86659FD93


@dataclass(slots=True)
class Record:
    """One group commit as read back: ``count`` entries, of which devices sent ``readings``.

    ``committed_ns`` (ns since 1970) is when the commit began.
    """

    id: int
    committed_ns: int
    readings: int
    count: int
    ledger_bytes: int
    body: bytes
    size: int
    """Bytes of the record in a segment, header included."""
    _entries: list[Entry] | None = field(default=None, repr=False, compare=False)

    @property
    def ledger(self) -> bytes:
        """The bytes of the entries without their points."""
        return self.body[: self.ledger_bytes]

    @property
    def payload(self) -> bytes:
        """The points of all entries, in order."""
        return self.body[self.ledger_bytes :]

    @property
    def payload_bytes(self) -> int:
        """Length of ``payload``, without making a copy."""
        return len(self.body) - self.ledger_bytes

    @property
    def entries(self) -> list[Entry]:
        """The entries (one a message), decoded at the first use; each with its own slice of the payload."""
        if self._entries is None:
            self._entries = _decode_entries(self.body, self.count, self.ledger_bytes)
        return self._entries


def key(device: str, seq: int) -> int:
    """The key in an entry of this device, behind its number. Another device may have the same key."""
    checksum: int = crc32c(device.encode("utf-8", "surrogatepass"))
    return checksum * _DEVICE_FACTOR + seq * _SEQ_FACTOR & _KEY_BITS


def needle(device: str, seq: int) -> bytes:
    """The bytes that an entry of this device and number begins with."""
    return _NEEDLE.pack(seq, key(device, seq))


def encode(record_id: int, committed_ns: int, entries: Sequence[Entry]) -> bytes:
    """The record of one group commit.

    Raises:
        SpoolError: an entry is outside the format's limits, or the record would be too large.
    """
    fixed: list[bytes] = []
    texts: list[bytes] = []
    readings = 0
    pack = _ENTRY.pack
    for entry in entries:
        device = entry.device.encode("utf-8", "surrogatepass")
        boot = entry.boot.encode("utf-8", "surrogatepass")
        seq, lines, verdicts = entry.seq, entry.lines, entry.verdicts
        if entry.kind is READINGS:
            readings += lines
        try:
            packed = pack(
                seq,
                # `key`, computed each time: a look-up among thousands of devices takes longer.
                crc32c(device) * _DEVICE_FACTOR + seq * _SEQ_FACTOR & _KEY_BITS,
                entry.arrived_ns,
                entry.gaps,
                lines,
                entry.duplicate,
                entry.rejected,
                len(entry.payload),
                len(verdicts),
                len(device),
                len(boot),
                entry.kind,
            )
        except struct.error as error:
            raise SpoolError(f"an entry of device {entry.device!r} cannot be written: {error}") from error
        fixed.append(packed)
        texts.append(device + boot + verdicts)
    ledger = b"".join(fixed + texts)
    body = b"".join([ledger] + [entry.payload for entry in entries])
    if len(body) > MAX_BODY_BYTES:
        raise SpoolError(f"a commit of {len(body)} bytes is more than a record holds")
    fields = _FIELDS.pack(record_id, committed_ns, len(body), crc32c(body), len(ledger), len(fixed), readings)
    return b"".join((_START.pack(MAGIC, crc32c(fields)), fields, body))


def readings_in(data: bytes) -> int:
    """How many readings of devices there are in the record that `encode` made."""
    readings: int = unpack(data)[-1]
    return readings


def decode_run(data: bytes, at: int, due: int) -> tuple[list[Record], int]:
    """The whole records that follow one another from ``at`` on, and the offset behind the last of them.

    ``due`` is the lowest id the first of them may have; each further id is higher.
    """
    records: list[Record] = []
    last = len(data) - HEADER_BYTES
    while at <= last:
        magic, checksum, record_id, committed_ns, size, body_crc, ledger_bytes, count, readings = unpack(data, at)
        start = at + HEADER_BYTES
        end = start + size
        if magic != MAGIC or end > len(data) or crc32c(data[at + _START.size : start]) != checksum:
            break
        body = data[start:end]
        if record_id < due or crc32c(body) != body_crc:
            break
        records.append(Record(record_id, committed_ns, readings, count, ledger_bytes, body, end - at))
        at, due = end, record_id + 1
    return records, at


unpack = _HEADER.unpack_from


def find_fault(data: bytes, at: int, due: int) -> tuple[str, int]:
    """Why no whole record begins at ``at``, in words, and how many bytes from there on are needed to be sure.

    The number is 0 when more bytes would change nothing.
    """
    header = data[at : at + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return "cut short", HEADER_BYTES
    magic, checksum, record_id, _, size, _, _, _, _ = unpack(header)
    if magic != MAGIC or crc32c(header[_START.size :]) != checksum or size > MAX_BODY_BYTES:
        return "not the header of a record", 0
    if len(data) < at + HEADER_BYTES + size:
        return f"record {record_id} is cut short", HEADER_BYTES + size
    if record_id < due:
        return f"record {record_id} stands where {due} or later was due", 0
    return f"the checksum of record {record_id} does not fit", 0


def _decode_entries(body: bytes, count: int, point: int) -> list[Entry]:
    """The entries of a body whose points begin at ``point``."""
    entries: list[Entry] = []
    text = ENTRY_BYTES * count
    for unpacked in _ENTRY.iter_unpack(body[:text]):
        seq, _, arrived_ns, gaps, lines, duplicate, rejected, points, verdicts, device, boot, kind = unpacked
        name_end = text + device
        boot_end = name_end + boot
        end, point_end = boot_end + verdicts, point + points
        entries.append(
            Entry(
                body[text:name_end].decode("utf-8", "surrogatepass"),
                body[name_end:boot_end].decode("utf-8", "surrogatepass"),
                seq,
                lines,
                duplicate,
                rejected,
                gaps,
                body[point:point_end],
                body[boot_end:end],
                _KINDS[kind],
                arrived_ns,
            )
        )
        text, point = end, point_end
    return entries
