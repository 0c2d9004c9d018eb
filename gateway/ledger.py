"""The account of every device: received = stored + duplicate + rejected + dropped + pending, in readings.

Rules that hold here:

* An `Entry` is what one message (or the gateway itself, for presence) adds to a group commit. It is written into the
  spool's record, so every count below can be restored from the spool.
* Counts change only when an entry becomes durable (`Ledger.committed`), is delivered (`Ledger.delivered`), or leaves
  the spool undelivered because that was full (`Ledger.dropped`) or damaged (`Ledger.write_off`), and when a dead letter
  is stored after all or given up (`Ledger.settled`).
* A sequence number is accepted before it is durable, and durable before it is stored. A failed commit sets ``accepted``
  back to ``durable``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NO_SEQ = -1
"""Stands for the sequence number of a message that has none."""
_json = json.JSONEncoder(separators=(",", ":")).encode
BOOTS_KEPT = 8
"""Boots remembered of each device: the present one, and some whose messages may still be in flight."""


class Kind(IntEnum):
    """What an entry's lines are."""

    READINGS = 0
    PRESENCE = 1
    """Points that the gateway writes about a device; they are not in the device's account."""


READINGS = Kind.READINGS  # a member is slow to look up in its class before Python 3.12


@dataclass(slots=True)
class Entry:
    """One message's part of a commit: its counts (readings) and its encoded points.

    ``payload`` is ``lines`` points of line protocol, each ended by a newline, with timestamps in ns. ``seq`` is
    `NO_SEQ` for a message without a number; ``gaps`` are the numbers that it skipped. ``verdicts`` is the JSON of its
    refusals, empty if there are none. ``arrived_ns`` is its arrival, in ns since 1970.
    Not written to disk: ``latest`` (field to value of its newest reading) and its ``time_ns``, for viewers;
    ``sequence``, which the session of the message uses, None for an entry that was read back; and how many of the
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
    """The highest sequence numbers of one boot, `NO_SEQ` before the first. All sessions of the device share it."""

    accepted: int = NO_SEQ
    durable: int = NO_SEQ
    stored: int = NO_SEQ
    """The highest number in the database."""
    account: Account | None = field(default=None, repr=False, compare=False)
    """The account whose ``boots`` it is in, or None; saves two look-ups per message. Only `Account` sets it."""


@dataclass(slots=True)
class Account:
    """The sums of one device, in readings; ``gaps`` are skipped sequence numbers."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    gaps: int = 0
    boots: dict[str, Sequence] = field(default_factory=dict)
    """Sequences by boot, the least recently used one first."""

    @property
    def pending(self) -> int:
        """Readings that are durable and not yet delivered."""
        return self.received - self.stored - self.duplicate - self.rejected - self.dropped

    def sequence(self, boot: str) -> Sequence:
        """The sequence of ``boot``, made on first use; the least recently used boots are forgotten.

        It goes by use, not by age: new boots must not push out the one that the device goes on with.
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
        """The account by the names of the API."""
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
    """A ledger as it was at one moment. No copy is made of it at once, which would take a quarter of a second.

    `rows` is read once, on any thread, while the ledger goes on counting. The ledger keeps the row of each account that
    is about to change. If both keep the row of an account, the first one counts, because it was read before the change
    (``dict.setdefault`` is atomic); the other one may be torn and is not used.
    """

    def __init__(self, marks: Mapping[str, int], accounts: Mapping[str, Account]) -> None:
        self.marks = marks
        """Up to which records of the spool the snapshot counts, by the names of the ledger's attributes."""
        self.ended = False
        """Whether a newer snapshot was begun: the ledger keeps no rows for this one any more."""
        self.read = False
        """Whether all rows have been read."""
        self._accounts = accounts
        self._kept: dict[str, str] = {}
        """The rows that were kept, by device; as text, which the garbage collector does not have to traverse."""

    def keep(self, device: str, account: Account) -> None:
        """Keep the row of an account as it is now, unless it is kept already."""
        if device not in self._kept:
            self._kept.setdefault(device, _row(account))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each device with the JSON of its sums and of its boots' sequence numbers.

        Raises:
            RuntimeError: the next snapshot began before all rows were read.
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
    """The accounts of all devices, their sum, and up to which records of the spool they count."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        """By device."""
        self.total = Account()
        """The sums of all devices."""
        self._snapshot: Snapshot | None = None
        """The snapshot that has not been read to its end; accounts are kept for it before they change."""
        self.committed_to = 0
        """The id of the last record that is counted as durable."""
        self.delivered_to = 0
        """The id of the last record that is counted as delivered or dropped."""
        self.settled_to = 0
        """How far the changes of dead letters are counted (`settled`); its caller sets it."""

    def account(self, device: str) -> Account:
        """The account of ``device``, made on first use."""
        found = self.accounts.get(device)
        if found is None:
            found = self.accounts[device] = Account()
        return found

    def committed(self, record_id: int, entries: Iterable[Entry]) -> None:
        """Count the entries of a record that became durable."""
        received = 0
        accounts = {} if self._snapshot else self.accounts
        for entry in entries:
            if entry.kind is not READINGS:
                continue
            sequence, seq, lines = entry.sequence, entry.seq, entry.lines
            # If `accounts` is empty, each account goes through `_changing`, which keeps it for the snapshot.
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
        if sequence.account is None:  # the account has forgotten it, but its session goes on
            account.keep(entry.boot, sequence)
        return sequence

    def _count_rest(self, account: Account, entry: Entry) -> None:
        for sums in (account, self.total):
            sums.duplicate += entry.duplicate
            sums.rejected += entry.rejected
            sums.gaps += entry.gaps

    def delivered(self, record_id: int, entries: Iterable[Entry], refused: Mapping[str, int]) -> None:
        """Count a record as delivered, except ``refused`` (readings by device), which became dead letters."""
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
            sequence = account.boots.get(entry.boot)  # a forgotten boot must not push out a live one
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
        """Count as dropped the pending readings beyond those ``left`` in the spool, by device: they were damaged.

        Returns the number of dropped readings. It is negative if more are left than pending: a disk may read today what
        it could not read before. Such readings are no longer dropped, or were not even known to be received.
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
        """Of the readings counted as rejected, ``stored`` are in the database now, and ``dropped`` were given up."""
        for sums in (self._changing(device), self.total):
            sums.stored += stored
            sums.dropped += dropped
            sums.rejected -= stored + dropped

    def rolled_back(self, entry: Entry) -> int:
        """Take back what the failed commit of ``entry`` had accepted; returns the last durable sequence number."""
        sequence = entry.sequence or self.account(entry.device).sequence(entry.boot)
        sequence.accepted = sequence.durable
        return sequence.durable

    def snapshot(self) -> Snapshot:
        """The ledger as it is now, for the checkpoint before a segment is deleted. It ends the snapshot before."""
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
        ledger.settled_to = snapshot.get("settled_to", 0)  # snapshots of older versions have none
        return ledger
