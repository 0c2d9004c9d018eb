"""Devices that ask to be let in, and what operators say to them (SQLite, one file).

The gateway writes down who asks and carries out what was decided. The command line, another process, reads and decides.

Rules that hold here:

* A request is a device id and a claim, which people compare. Two devices that ask for one id are two requests.
* Only what is pending is decided, and once. Nothing is approved that two devices have shown the claim of.
* There is no token here, and of a device's secret only the SHA-256: a token is made when it can be handed over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import EnrolmentConflict, UnknownEnrolment
from gateway.state.sqlite_file import open_store, transaction
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

LAYOUT_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS enrolments (
    device TEXT NOT NULL,
    claim TEXT NOT NULL,
    secret_sha256 BLOB,      -- NULL: the device has none
    address TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    info TEXT NOT NULL,      -- JSON
    contested INTEGER NOT NULL,
    state TEXT NOT NULL,
    profile TEXT,            -- from here on what was decided
    tags TEXT,               -- JSON
    replaces INTEGER NOT NULL,
    decided_by TEXT NOT NULL,
    delivered_ns INTEGER NOT NULL,
    PRIMARY KEY (device, claim)
) WITHOUT ROWID
"""
_WRITE = """
INSERT INTO enrolments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device, claim) DO UPDATE SET secret_sha256 = excluded.secret_sha256, address = excluded.address,
    info = excluded.info, contested = excluded.contested, delivered_ns = excluded.delivered_ns
"""
"""What was decided, and until when it counts, is not the gateway's to change: somebody may just have done so."""
_DECIDE = """
UPDATE enrolments SET state = ?, expires_ns = ?, profile = ?, tags = ?, replaces = ?, decided_by = ?
WHERE device = ? AND claim = ?
"""

EnrolmentKey = tuple[str, str]
"""Device id and claim."""


class EnrolmentState(StrEnum):
    """What was decided of a request."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class EnrolmentDecision:
    """What an operator says to a request, for the log ``by`` whom; None for profile and tags: as they are."""

    state: EnrolmentState
    by: str
    expires_ns: int
    """An approval that was not fetched by then is void."""
    profile: str | None = None
    tags: Mapping[str, str] | None = None
    replaces: bool = False
    """A device that is registered may get a new token, at which its old one ends."""


@dataclass(slots=True)
class EnrolmentRequest:
    """A device that asks; times in ns since 1970, ``delivered_ns`` is when its token was made, 0 before."""

    id: str
    claim: str
    secret_sha256: bytes | None = field(repr=False)
    address: str
    since_ns: int
    expires_ns: int
    info: dict[str, Any] = field(default_factory=dict)
    contested: bool = False
    decision: EnrolmentDecision | None = None
    delivered_ns: int = 0

    @property
    def key(self) -> EnrolmentKey:
        """What names it."""
        return self.id, self.claim

    @property
    def approval(self) -> EnrolmentDecision | None:
        """What was decided, if it is yes."""
        decision = self.decision
        return decision if decision is not None and decision.state is EnrolmentState.APPROVED else None

    def shown(self) -> dict[str, Any]:
        """As the API and the command line show it."""
        return {
            "id": self.id,
            "claim": self.claim,
            "address": self.address,
            "since": self.since_ns // NS_PER_MS,
            "expires": self.expires_ns // NS_PER_MS,
            "info": self.info,
            "contested": self.contested,
            "approved": self.approval is not None,
        }


class Enrolments:
    """The file at ``path``. Methods block, may be called from any thread, and raise sqlite3.Error when it fails."""

    def __init__(self, path: Path) -> None:
        """Raises: GatewayError if a newer gateway wrote the file."""
        self._lock = threading.Lock()
        # A power cut may take a request or a decision back: then it is made again.
        self._db = open_store(path, "enrolments", LAYOUT_VERSION, _SCHEMA, synchronous="NORMAL")

    def waiting(self, now_ns: int) -> list[EnrolmentRequest]:
        """Requests that have not expired, the oldest first."""
        with self._lock:
            return self._list("expires_ns > ?", now_ns)

    def _list(self, where: str, *values: Any) -> list[EnrolmentRequest]:
        rows = self._db.execute(f"SELECT * FROM enrolments WHERE {where} ORDER BY since_ns", values).fetchall()
        return [_request(row) for row in rows]

    def sync(self, changed: Collection[EnrolmentRequest], gone: Collection[EnrolmentKey]) -> list[EnrolmentRequest]:
        """Write down what changed and forget what is ``gone``; all requests that were decided."""
        with self._lock:
            if changed or gone:
                with transaction(self._db) as db:
                    db.executemany("DELETE FROM enrolments WHERE device = ? AND claim = ?", gone)
                    db.executemany(_WRITE, [_row(request) for request in changed])
            return self._list("state <> ?", EnrolmentState.PENDING)

    def write(self, request: EnrolmentRequest) -> None:
        """Write down one that changed."""
        with self._lock, transaction(self._db) as db:
            db.execute(_WRITE, _row(request))

    def decide(
        self,
        device: str,
        claim: str | None,
        decision: EnrolmentDecision,
        now_ns: int,
        accept: Callable[[], None] = lambda: None,
    ) -> EnrolmentRequest:
        """Say yes or no to a pending request of ``device``; ``claim`` may be left out where there is just one.

        ``accept`` has the last word: nothing is decided if it raises.

        Raises:
            UnknownEnrolment: there is none.
            EnrolmentConflict: there are several, or two devices have shown this claim.
        """
        with self._lock, transaction(self._db) as db:
            waiting = self._list("state = ? AND expires_ns > ? AND device = ?", EnrolmentState.PENDING, now_ns, device)
            request = _only(device, claim, [request for request in waiting if claim in {None, request.claim}])
            if request.contested and decision.state is EnrolmentState.APPROVED:
                raise EnrolmentConflict(
                    f"another device has shown the claim {request.claim}, too: refuse it, and have the device make"
                    " a new one"
                )
            accept()
            db.execute(_DECIDE, (*_decided(decision), *request.key))
        request.decision = decision
        return request

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _only(device: str, claim: str | None, found: list[EnrolmentRequest]) -> EnrolmentRequest:
    if not found:
        shown = "" if claim is None else " with this claim"
        raise UnknownEnrolment(f"no device {device[:128]} waits to be approved{shown}")
    if len(found) > 1:
        claims = ", ".join(request.claim for request in found)
        raise EnrolmentConflict(f"several devices ask to be {device}: say which claim is the right one, of {claims}")
    return found[0]


def _decided(decision: EnrolmentDecision | None) -> tuple[Any, ...]:
    """State, expiry, profile, tags, replaces and by whom, as in a row."""
    if decision is None:
        return EnrolmentState.PENDING, 0, None, None, False, ""
    tags = None if decision.tags is None else orjson.dumps(decision.tags).decode()
    return decision.state, decision.expires_ns, decision.profile, tags, decision.replaces, decision.by


def _row(request: EnrolmentRequest) -> tuple[Any, ...]:
    state, _, *decided = _decided(request.decision)
    asked = (*request.key, request.secret_sha256, request.address, request.since_ns, request.expires_ns)
    info = orjson.dumps(request.info).decode()
    return (*asked, info, request.contested, state, *decided, request.delivered_ns)


def _request(row: tuple[Any, ...]) -> EnrolmentRequest:
    device, claim, secret, address, since_ns, expires_ns, info, contested, state, *decided = row
    profile, tags, replaces, by, delivered_ns = decided
    decision = None
    if state != EnrolmentState.PENDING:
        known = None if tags is None else orjson.loads(tags)
        decision = EnrolmentDecision(EnrolmentState(state), by, expires_ns, profile, known, bool(replaces))
    told = orjson.loads(info)
    return EnrolmentRequest(
        device, claim, secret, address, since_ns, expires_ns, told, bool(contested), decision, delivered_ns
    )
