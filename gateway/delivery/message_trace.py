"""What became of a reading: the stages a message went through, from the spool, the log of writes and the dead letters.

Rules that hold here:

* Reads only. Works beside the gateway that uses the files, and without one.
* What is not known is not guessed: an answer without a time or a write says that there was none recorded.
* What the database is doing right now only the running gateway knows; it adds that itself (`gateway.api.why`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.delivery import write_log
from gateway.delivery.settled_dead_letters import Settlement
from gateway.ledger import NO_SEQ
from gateway.line_protocol import split_lines
from gateway.spool.inspection import cursor_position
from gateway.spool.search import Search
from gateway.time_units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.write_log import Write
    from gateway.spool.search import Found

MOST_COPIES = 20
"""Messages in one answer: the first copy and what was sent again."""
MOST_POINTS = 20
"""Points and writes of a message that are listed."""
AROUND_NS = 1_000_000_000
"""How far from the time asked for a message may have arrived, where none has a point of just that time."""


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """Where the answers are: the spool's directory, the log of writes, the dead letters (None: there never were any).

    ``known`` says whether anything has ever been heard of the device.
    """

    spool: Path
    writes: Path
    letters: DeadLetters | None
    known: bool


def by_number(records: TraceFiles, device: str, seq: int, boot: str | None = None) -> dict[str, Any]:
    """What became of message ``seq`` of a device, in the newest of its boots if none is given.

    A JSON-ready object: ``found``; ``answer``, one sentence; ``messages``, the first copy and those sent again.

    Raises:
        SpoolError, OSError, sqlite3.Error: something cannot be read.
    """
    search = Search(records.spool)
    if (unknown := _unknown(records, search, device)) is not None:
        return {"device": device, "boot": boot, "seq": seq, **unknown}
    found = [each for each in search.numbered(device, seq) if boot in {None, each.entry.boot}]
    if found and boot is None:
        boot = found[-1].entry.boot
        found = [each for each in found if each.entry.boot == boot]
    asked = {"device": device, "boot": boot, "seq": seq}
    if found:
        return {**asked, **_answer(records, found)}
    return {**asked, **_absent(search, device, seq, boot)}


def by_time(records: TraceFiles, device: str, time_ns: int) -> dict[str, Any]:
    """What became of the messages with a point of that time (ns since 1970), or else of those that arrived about then.

    The answer and what is raised: as for `by_number`.
    """
    search = Search(records.spool)
    asked = {"device": device, "time": moment(time_ns)}
    if (unknown := _unknown(records, search, device)) is not None:
        return {**asked, **unknown}
    found = list(islice(search.stamped(device, time_ns), MOST_COPIES))
    if found:
        return {**asked, **_answer(records, found)}
    found = list(islice(search.arrived(device, time_ns - AROUND_NS, time_ns + AROUND_NS), MOST_COPIES))
    if found:
        text = f"no reading of this device has that time; {len(found)} messages arrived within a second of it"
        return {**asked, **_answer(records, found), "answer": text}
    return {**asked, **_nothing(search, "there is no reading of that time, and nothing that arrived then")}


_ENDS = {
    Settlement.STORED.value: "stored by a replay",
    Settlement.DISCARDED.value: "discarded for want of room for dead letters",
    Settlement.DELETED.value: "deleted by the operator",
}


def _answer(records: TraceFiles, found: list[Found]) -> dict[str, Any]:
    cursor = cursor_position(records.spool)
    writes = list(write_log.read(records.writes))
    messages = [_message(records, each, cursor, writes) for each in found[:MOST_COPIES]]
    first, again = messages[0], len(found) - 1
    text = first["what"] + (f"; {again} later copies were duplicates" if again else "")
    return {"found": True, "answer": text, "messages": messages}


def _message(records: TraceFiles, found: Found, cursor: int, writes: list[Write]) -> dict[str, Any]:
    record, entry, line = found
    delivered = record.id <= cursor
    mine = [write for write in writes if write.touches(record.id, line, entry.lines)]
    letters, ended = _letters(records, found), _ended(records, found)
    return {
        "what": _what(found, delivered=delivered, writes=mine, dead=len(letters), ended=ended),
        "record": record.id,
        "boot": entry.boot,
        "seq": None if entry.seq == NO_SEQ else entry.seq,
        "arrived": moment(entry.arrived_ns),
        "committed": moment(record.committed_ns),
        "delivered": delivered,
        "readings": {
            "received": entry.received,
            "accepted": entry.accepted,
            "duplicate": entry.duplicate,
            "rejected": entry.rejected,
        },
        "left_out_before": entry.gaps,
        "verdicts": _verdicts(entry.verdicts),
        "writes": [
            {"n": write.n, "ended": moment(write.ended_ns), "seconds": write.seconds, "points": write.points}
            for write in mine[:MOST_POINTS]
        ],
        "dead_letters": letters[:MOST_POINTS],
        "former_dead_letters": ended[:MOST_POINTS],
        "points": [point.decode(errors="replace").rstrip("\n") for point in _points(found)[:MOST_POINTS]],
    }


def _what(found: Found, *, delivered: bool, writes: list[Write], dead: int, ended: list[dict[str, Any]]) -> str:
    entry = found.entry
    if entry.duplicate:
        return "a duplicate: an earlier copy counts, this one was not stored again"
    if not entry.lines:
        return "refused when it arrived: see the verdicts" if entry.rejected else "there was nothing to store in it"
    part = f", {entry.rejected} of its readings were refused when it arrived" if entry.rejected else ""
    if not delivered:
        return f"waits in the spool for the database{part}"
    if dead == entry.lines:
        return f"the database refused it: see the dead letters{part}"
    part += f", {dead} of its points the database refused" if dead else ""
    for end in dict.fromkeys(each["ended"] for each in ended):
        count = sum(each["ended"] == end for each in ended)
        part += f", {count} were refused and later {_ENDS[end]}"
    if len(ended) == entry.lines:
        return part.removeprefix(", ")
    if not writes:
        return f"in the database; when was not recorded, or so long ago that it is forgotten{part}"
    return f"in the database since {moment(writes[-1].ended_ns)}, by write {writes[-1].n}{part}"


def _letters(records: TraceFiles, found: Found) -> list[dict[str, Any]]:
    if records.letters is None or not found.entry.lines:
        return []
    record = found.record
    letters = records.letters.of_message(record.id, record.committed_ns, found.line, found.entry.lines)
    return [
        {
            "n": letter.n,
            "refused": moment(letter.refused_ns),
            "kind": letter.kind,
            "reason": letter.reason,
            "point": letter.data.decode(errors="replace").rstrip("\n"),
        }
        for letter in letters
    ]


def _ended(records: TraceFiles, found: Found) -> list[dict[str, Any]]:
    if records.letters is None or not found.entry.lines:
        return []
    record = found.record
    return [
        {
            "line": each.line - found.line,
            "ended": each.end.value,
            "at": moment(each.ended_ns),
            "kind": each.kind,
            "reason": each.reason,
        }
        for each in records.letters.ended_of_message(record.id, record.committed_ns, found.line, found.entry.lines)
    ]


def _points(found: Found) -> list[bytes]:
    return split_lines(found.entry.payload, found.entry.lines) if found.entry.lines else []


def _verdicts(data: bytes) -> Any:
    return json.loads(data) if data else []


def _unknown(records: TraceFiles, search: Search, device: str) -> dict[str, Any] | None:
    if records.known or search.has(device):
        return None
    text = "no device of that name is registered, and none has ever sent anything"
    return {"found": False, "answer": text, "messages": []}


def _absent(search: Search, device: str, seq: int, boot: str | None) -> dict[str, Any]:
    if boot is None:
        newest = search.newest(device)
        if newest is None:
            return _nothing(search, "no numbered message of this device is kept: it is older, or never came")
        boot = newest.entry.boot
    return {"boot": boot, **_nothing(search, _between(*search.neighbours(device, boot, seq), boot, seq))}


def _between(before: Found | None, after: Found | None, boot: str, seq: int) -> str:
    """Why there is no message between these two of its boot."""
    if after is None:
        if before is None:
            return f"nothing of boot {boot} is kept: it is older, or never came"
        return f"never received: the highest number of boot {boot} so far is {before.entry.seq}"
    number, came = after.entry.seq, moment(after.entry.arrived_ns)
    if number - after.entry.gaps <= seq:
        return f"never received: a gap. {number} came at {came}, and {after.entry.gaps} before it had been left out"
    if before is None:
        return f"older than what is kept, or never sent: of boot {boot} the first number that is kept is {number}"
    return "its record is damaged or missing: see `gateway spool verify`"


def _nothing(search: Search, text: str) -> dict[str, Any]:
    first = search.begins()
    begins = None if first is None else moment(first.committed_ns)
    kept = "The spool is empty" if begins is None else f"Kept history begins at {begins}"
    return {"found": False, "answer": f"{text}. {kept}", "history_begins": begins, "messages": []}


def moment(ns: int) -> str:
    """``ns`` since 1970 as RFC 3339 in UTC, to the millisecond."""
    seconds, rest = divmod(ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // NS_PER_MS:03d}Z"
