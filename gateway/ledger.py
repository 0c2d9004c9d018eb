"""Who sent what and what became of it: received = stored + duplicate + rejected + dropped + pending, per device.

Rules that hold here:

* An `Entry` is what one message (or the gateway itself, for presence) adds to a group commit. It is written into the
  spool's record, so every count below can be made again from the spool.
* Counts change at these moments only: an entry became durable (`Ledger.committed`), left the spool for the database
  (`Ledger.delivered`), or left it unread because the spool was full (`Ledger.dropped`) or damaged (`Ledger.write_off`);
  a point that the database had refused was stored after all, or given up (`Ledger.settled`).
* Sequence numbers are accepted before they are durable and durable before they are stored; a failed commit takes
  ``accepted`` back to ``durable``, never the other way round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NO_SEQ = -1
_json = json.JSONEncoder(separators=(",", ":")).encode
BOOTS_KEPT = 8
"""Runs of sequence numbers remembered per device: the current one and some that may still be in flight."""


class Kind(IntEnum):
    """What an entry's lines are."""

    READINGS = 0
    PRESENCE = 1
    """Written by the gateway about a device; never part of the device's account."""


READINGS = Kind.READINGS  # a member is slow to look up in its class before Python 3.12


@dataclass(slots=True)
class Entry:
    """One message's part of a commit: its counts (readings) and its encoded points.

    ``payload`` is ``lines`` points of line protocol, each ended by a newline, nanosecond timestamps. ``seq`` is
    `NO_SEQ` for a message without a number. ``verdicts`` is the JSON of its refusals, empty when there are none.
    Not written to disk: ``latest`` (field to value of its newest reading) and its ``time_ns``, for viewers;
    ``sequence``, the numbers that the session of the message goes by, None for an entry read back; and how many of the
    points have a ``corrected`` time.
    """

    device: str
    boot: str = ""
    seq: int = NO_SEQ
    lines: int = 0
    duplicate: int = 0
    rejected: int = 0
    gaps: int = 0
    payload: bytes = b""
    verdicts: bytes = b""
    kind: Kind = READINGS
    arrived_ns: int = 0
    latest: Mapping[str, Any] | None = None
    time_ns: int = 0
    sequence: Sequence | None = field(default=None, repr=False, compare=False)
    corrected: int = field(default=0, repr=False, compare=False)

    @property
    def accepted(self) -> int:
        """Readings of the device that this entry stores."""
        return self.lines if self.kind is READINGS else 0

    @property
    def received(self) -> int:
        """Readings the device sent in this message."""
        return self.accepted + self.duplicate + self.rejected


@dataclass(slots=True)
class Sequence:
    """How far one boot's sequence numbers got; `NO_SEQ` where none did. Shared by all sessions of the device."""

    accepted: int = NO_SEQ
    durable: int = NO_SEQ
    stored: int = NO_SEQ
    account: Account | None = field(default=None, repr=False, compare=False)
    """Whose ``boots`` it is in, None while in none: spares two look-ups per message. Only `Account` sets it."""


@dataclass(slots=True)
class Account:
    """One device's sums, in readings; ``gaps`` in skipped sequence numbers."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    gaps: int = 0
    boots: dict[str, Sequence] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Readings that are safe on disk and not yet in the database."""
        return self.received - self.stored - self.duplicate - self.rejected - self.dropped

    def sequence(self, boot: str) -> Sequence:
        """The sequence state of ``boot``, made on first use; the least recently used boots are forgotten.

        Used, not made: a device that reconnects often must not push out the one it goes on with.
        """
        return self.keep(boot, self.boots.get(boot) or Sequence())

    def keep(self, boot: str, sequence: Sequence) -> Sequence:
        """Remember ``sequence`` as that of ``boot``, the most recently used."""
        self._forget(boot)
        while len(self.boots) >= BOOTS_KEPT:
            self._forget(next(iter(self.boots)))
        self.boots[boot] = sequence
        sequence.account = self
        return sequence

    def _forget(self, boot: str) -> None:
        forgotten = self.boots.pop(boot, None)
        if forgotten is not None:
            forgotten.account = None

    def sums(self) -> dict[str, int]:
        """The account as INTERFACES names it."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "rejected": self.rejected,
            "dropped": self.dropped,
            "pending": self.pending,
            "gaps": self.gaps,
        }


class Snapshot:
    """A ledger as it was at one moment, with no copy made of it at once: that would take a quarter of a second.

    `rows` is read once, on any thread, while the ledger goes on. It keeps the row of each account that is about to
    change. Whichever of the two is first to keep a row read it before the change: the other's, which may be torn, is
    not used (``dict.setdefault`` is atomic).
    """

    def __init__(self, marks: Mapping[str, int], accounts: Mapping[str, Account]) -> None:
        self.marks = marks
        self.ended = False
        """A newer one was begun, and the ledger keeps nothing for this one any more."""
        self.read = False
        self._accounts = accounts
        self._kept: dict[str, str] = {}  # as text, which the garbage collector does not have to go through

    def keep(self, device: str, account: Account) -> None:
        """Keep the row of an account as it is, unless it is kept."""
        if device not in self._kept:
            self._kept.setdefault(device, _row(account))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each device with the JSON of its sums and of its boots' sequence numbers.

        Raises:
            RuntimeError: it took longer than until the next snapshot.
        """
        for device in list(self._accounts):
            if device not in self._kept:
                self._kept.setdefault(device, _row(self._accounts[device]))
            yield device, self._kept[device]
        if self.ended:
            raise RuntimeError("a newer snapshot of the ledger was begun while this one was read")
        self.read = True


def _row(account: Account) -> str:
    a = account
    boots = {boot: (s.durable, s.stored) for boot, s in list(a.boots.items())}  # the ledger may add one meanwhile
    return _json(((a.received, a.stored, a.duplicate, a.rejected, a.dropped, a.gaps), boots))


class Ledger:
    """All accounts, the marks up to which the spool's records are counted in them, and their sum."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.total = Account()
        self._snapshot: Snapshot | None = None
        self.committed_to = 0
        self.delivered_to = 0
        self.settled_to = 0

    def account(self, device: str) -> Account:
        """The account of ``device``, made on first use."""
        found = self.accounts.get(device)
        if found is None:
            found = self.accounts[device] = Account()
        return found

    def committed(self, record_id: int, entries: Iterable[Entry]) -> None:
        """Count a record that became durable."""
        received = 0
        accounts = {} if self._snapshot else self.accounts
        for entry in entries:
            if entry.kind is not READINGS:
                continue
            sequence, seq, lines = entry.sequence, entry.seq, entry.lines
            # Without `accounts` every one goes through `_changing`, which keeps it for the snapshot.
            if sequence is None or not accounts or (account := sequence.account) is None:
                account = accounts.get(entry.device) or self._changing(entry.device)
                if seq != NO_SEQ:
                    sequence = self._kept(account, entry)
            readings = lines + entry.duplicate + entry.rejected
            account.received += readings
            received += readings
            if readings != lines or entry.gaps:
                self._count_rest(account, entry)
            if seq != NO_SEQ and sequence is not None:
                if seq > sequence.durable:  # noqa: PLR1730 - max() is a call, for every message
                    sequence.durable = seq
                if seq > sequence.accepted:  # noqa: PLR1730
                    sequence.accepted = seq
        self.total.received += received
        self.committed_to = max(self.committed_to, record_id)

    def _kept(self, account: Account, entry: Entry) -> Sequence:
        sequence = entry.sequence
        if sequence is None:
            return account.sequence(entry.boot)
        if sequence.account is None:  # forgotten, though its session lives
            account.keep(entry.boot, sequence)
        return sequence

    def _count_rest(self, account: Account, entry: Entry) -> None:
        for sums in (account, self.total):
            sums.duplicate += entry.duplicate
            sums.rejected += entry.rejected
            sums.gaps += entry.gaps

    def delivered(self, record_id: int, entries: Iterable[Entry], refused: Mapping[str, int]) -> None:
        """Count a record as in the database; ``refused`` (device to number) became dead letters instead."""
        left = dict(refused)
        stored = 0
        accounts = {} if self._snapshot else self.accounts
        for entry in entries:
            if entry.kind is not READINGS:
                continue
            account = accounts.get(entry.device) or self._changing(entry.device)
            account.stored += entry.lines
            stored += entry.lines
            if left:
                self._count_dead(account, entry, left)
            sequence = account.boots.get(entry.boot)  # a boot that was forgotten meanwhile must not push out a live one
            if sequence is not None and entry.seq > sequence.stored:
                sequence.stored = entry.seq
        self.total.stored += stored
        self.delivered_to = max(self.delivered_to, record_id)

    def _count_dead(self, account: Account, entry: Entry, left: dict[str, int]) -> None:
        dead = min(left.get(entry.device, 0), entry.lines)
        if dead:
            left[entry.device] -= dead
            for sums in (account, self.total):
                sums.stored -= dead
                sums.rejected += dead

    def dropped(self, record_id: int, entries: Iterable[Entry]) -> None:
        """Count a record that a full spool discarded before delivery."""
        for entry in entries:
            for sums in (self._changing(entry.device), self.total):
                sums.dropped += entry.accepted
        self.delivered_to = max(self.delivered_to, record_id)

    def write_off(self, left: Mapping[str, int]) -> int:
        """Count as dropped what pends beyond the readings ``left`` of each device: they were damaged. The number.

        It is negative when more is left than pends. A disk can read today what it could not before: that is no longer
        dropped, or was not even known to be received.
        """
        before = self.total.dropped
        for device in self.accounts.keys() | left.keys():
            account = self._changing(device)
            missing = max(account.pending - left.get(device, 0), -account.dropped)
            unknown = missing - account.pending + left.get(device, 0)
            for sums in (account, self.total):
                sums.dropped += missing
                sums.received += unknown
        return self.total.dropped - before

    def settled(self, device: str, stored: int, dropped: int) -> None:
        """Of readings counted as rejected so many are in the database now, and so many given up."""
        for sums in (self._changing(device), self.total):
            sums.stored += stored
            sums.dropped += dropped
            sums.rejected -= stored + dropped

    def rolled_back(self, entry: Entry) -> int:
        """Take back what the failed commit of ``entry`` had accepted; the last sequence number that is still safe."""
        sequence = entry.sequence or self.account(entry.device).sequence(entry.boot)
        sequence.accepted = sequence.durable
        return sequence.durable

    def snapshot(self) -> Snapshot:
        """The ledger as it is now, for the checkpoint written before a segment goes. The one before ends."""
        if self._snapshot is not None:
            self._snapshot.ended = True
        marks = {"committed_to": self.committed_to, "delivered_to": self.delivered_to, "settled_to": self.settled_to}
        self._snapshot = Snapshot(marks, self.accounts)
        return self._snapshot

    def _changing(self, device: str) -> Account:
        """The account of ``device``, which is about to change."""
        account = self.account(device)
        if self._snapshot is not None:
            self._snapshot.keep(device, account)
            if self._snapshot.read:
                self._snapshot = None
        return account

    @classmethod
    def restored(cls, snapshot: Mapping[str, Any]) -> Ledger:
        """The ledger that a `Snapshot` described: its marks, and its rows as ``accounts``.

        Raises:
            KeyError, TypeError, ValueError: the snapshot is not one.
        """
        ledger = cls()
        for device, (sums, boots) in snapshot["accounts"].items():
            account = ledger.accounts[device] = Account(*sums)
            for boot, (durable, stored) in boots.items():
                account.keep(boot, Sequence(durable, durable, stored))
            for name in ("received", "stored", "duplicate", "rejected", "dropped", "gaps"):
                setattr(ledger.total, name, getattr(ledger.total, name) + getattr(account, name))
        ledger.committed_to = snapshot["committed_to"]
        ledger.delivered_to = snapshot["delivered_to"]
        ledger.settled_to = snapshot.get("settled_to", 0)  # 0: written before there was such a mark
        return ledger
