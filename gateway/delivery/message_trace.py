"""The trace of a message: the stages that it has passed, from the spool, the log of writes and the dead letters.

Rules that hold here:

* The files are only read, beside a running gateway or without one.
* Nothing is guessed: where no time or write was recorded, the answer says so.
* Only a running gateway knows the state of the database; `gateway.api.why` adds it.
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
from gateway.spool.message_search import MessageSearch
from gateway.time_units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.write_log import Write
    from gateway.spool.message_search import Found

MAX_COPIES = 20
"""Messages in one answer: the first copy and its resends."""
MAX_LISTED = 20
"""Points, writes and dead letters of a message that are listed."""
MAX_DISTANCE_NS = NS_PER_S
"""If no message has a point of the given time, messages that arrived within this distance of it are listed."""


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """The files that the trace of a message is read from."""

    spool: Path
    """The spool's directory."""
    writes: Path
    """The log of writes."""
    dead_letters: DeadLetters | None
    """None if no point was ever refused."""
    known: bool
    """Whether the device is registered or has ever sent anything."""


def by_number(files: TraceFiles, device: str, seq: int, boot: str | None = None) -> dict[str, Any]:
    """The trace of message ``seq`` of a device, in the newest of its boots if none is given.

    An object ready for JSON: ``found``; ``answer``, one sentence; ``messages``, the first copy and its resends.

    Raises:
        SpoolError, OSError, sqlite3.Error: a file cannot be read.
    """
    search = MessageSearch(files.spool)
    if (unknown := _unknown(files, search, device)) is not None:
        return {"device": device, "boot": boot, "seq": seq, **unknown}
    found = [each for each in search.numbered(device, seq) if boot in {None, each.entry.boot}]
    if found and boot is None:
        boot = found[-1].entry.boot
        found = [each for each in found if each.entry.boot == boot]
    asked = {"device": device, "boot": boot, "seq": seq}
    if found:
        return {**asked, **_answer(files, found)}
    return {**asked, **_absent(search, device, seq, boot)}


def by_time(files: TraceFiles, device: str, time_ns: int) -> dict[str, Any]:
    """The traces of the messages with a point of that time (ns since 1970), or else of those that arrived about then.

    The object and the exceptions are as for `by_number`.
    """
    search = MessageSearch(files.spool)
    asked = {"device": device, "time": moment(time_ns)}
    if (unknown := _unknown(files, search, device)) is not None:
        return {**asked, **unknown}
    found = list(islice(search.stamped(device, time_ns), MAX_COPIES))
    if found:
        return {**asked, **_answer(files, found)}
    found = list(islice(search.arrived(device, time_ns - MAX_DISTANCE_NS, time_ns + MAX_DISTANCE_NS), MAX_COPIES))
    if found:
        text = f"no reading of this device has that time; {len(found)} messages arrived within a second of it"
        return {**asked, **_answer(files, found), "answer": text}
    return {**asked, **_nothing(search, "there is no reading of that time, and nothing that arrived then")}


_SETTLEMENTS = {
    Settlement.STORED.value: "stored by a replay",
    Settlement.DISCARDED.value: "discarded because there were too many dead letters",
    Settlement.DELETED.value: "deleted by the operator",
}


def _answer(files: TraceFiles, found: list[Found]) -> dict[str, Any]:
    cursor = cursor_position(files.spool)
    writes = list(write_log.read(files.writes))
    messages = [_message(files, each, cursor, writes) for each in found[:MAX_COPIES]]
    first, again = messages[0], len(found) - 1
    text = first["what"] + (f"; {again} later copies were duplicates" if again else "")
    return {"found": True, "answer": text, "messages": messages}


def _message(files: TraceFiles, found: Found, cursor: int, writes: list[Write]) -> dict[str, Any]:
    record, entry, line = found
    delivered = record.id <= cursor
    mine = [write for write in writes if write.touches(record.id, line, entry.lines)]
    dead_letters, settled = _dead_letters(files, found), _settled(files, found)
    return {
        "what": _what(found, delivered=delivered, writes=mine, dead=len(dead_letters), settled=settled),
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
            for write in mine[:MAX_LISTED]
        ],
        "dead_letters": dead_letters[:MAX_LISTED],
        "former_dead_letters": settled[:MAX_LISTED],
        "points": [point.decode(errors="replace").rstrip("\n") for point in _points(found)[:MAX_LISTED]],
    }


def _what(found: Found, *, delivered: bool, writes: list[Write], dead: int, settled: list[dict[str, Any]]) -> str:
    """One clause that says how far the message has come; ``dead`` of its points are dead letters."""
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
    for how in dict.fromkeys(each["ended"] for each in settled):
        count = sum(each["ended"] == how for each in settled)
        part += f", {count} were refused and later {_SETTLEMENTS[how]}"
    if len(settled) == entry.lines:
        return part.removeprefix(", ")
    if not writes:
        return f"in the database; when was not recorded, or so long ago that it is forgotten{part}"
    return f"in the database since {moment(writes[-1].ended_ns)}, by write {writes[-1].n}{part}"


def _dead_letters(files: TraceFiles, found: Found) -> list[dict[str, Any]]:
    if files.dead_letters is None or not found.entry.lines:
        return []
    record = found.record
    letters = files.dead_letters.of_message(record.id, record.committed_ns, found.line, found.entry.lines)
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


def _settled(files: TraceFiles, found: Found) -> list[dict[str, Any]]:
    if files.dead_letters is None or not found.entry.lines:
        return []
    record = found.record
    return [
        {
            "line": each.line - found.line,
            "ended": each.settlement.value,
            "at": moment(each.settled_ns),
            "kind": each.kind,
            "reason": each.reason,
        }
        for each in files.dead_letters.settled_of_message(record.id, record.committed_ns, found.line, found.entry.lines)
    ]


def _points(found: Found) -> list[bytes]:
    return split_lines(found.entry.payload, found.entry.lines) if found.entry.lines else []


def _verdicts(data: bytes) -> Any:
    return json.loads(data) if data else []


def _unknown(files: TraceFiles, search: MessageSearch, device: str) -> dict[str, Any] | None:
    if files.known or search.has(device):
        return None
    text = "no device of that name is registered, and none has ever sent anything"
    return {"found": False, "answer": text, "messages": []}


def _absent(search: MessageSearch, device: str, seq: int, boot: str | None) -> dict[str, Any]:
    if boot is None:
        newest = search.newest(device)
        if newest is None:
            return _nothing(search, "no numbered message of this device is kept: it is older, or never came")
        boot = newest.entry.boot
    return {"boot": boot, **_nothing(search, _between(*search.neighbours(device, boot, seq), boot, seq))}


def _between(before: Found | None, after: Found | None, boot: str, seq: int) -> str:
    """Why there is no message ``seq`` between these two neighbours of its boot."""
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


def _nothing(search: MessageSearch, text: str) -> dict[str, Any]:
    first = search.begins()
    begins = None if first is None else moment(first.committed_ns)
    kept = "The spool is empty" if begins is None else f"Kept history begins at {begins}"
    return {"found": False, "answer": f"{text}. {kept}", "history_begins": begins, "messages": []}


def moment(ns: int) -> str:
    """``ns`` since 1970 as RFC 3339 in UTC, to the millisecond."""
    seconds, rest = divmod(ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // NS_PER_MS:03d}Z"
