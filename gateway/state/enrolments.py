"""The enrolment requests of devices, and the decisions of operators about them (one SQLite file).

The gateway writes the requests and carries out the decisions. The command line, another process, reads requests and
writes decisions.

Rules that hold here:

* A request is a device id and a claim code, which an operator compares with what the device shows. Two devices that ask
  for the same id are two requests.
* A request is decided once, while it is pending. It cannot be approved if two devices have shown its claim.
* The file has no token, because a token is made only when it can be delivered; of a device's secret it has the SHA-256.
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
    profile TEXT,            -- from here on: the decision
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
"""The columns of a decision, and its expiry, are left out: an operator may have written them since."""
_DECIDE = """
UPDATE enrolments SET state = ?, expires_ns = ?, profile = ?, tags = ?, replaces = ?, decided_by = ?
WHERE device = ? AND claim = ?
"""

EnrolmentKey = tuple[str, str]
"""Device id and claim."""


class EnrolmentState(StrEnum):
    """The decision about a request, or that there is none yet."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class EnrolmentDecision:
    """What an operator decided about a request."""

    state: EnrolmentState
    by: str
    """The operator, for the log."""
    expires_ns: int
    """When an approval ends if the device has not fetched its token, in ns since 1970."""
    profile: str | None = None
    """None: that of a device that is registered already, otherwise the default profile."""
    tags: Mapping[str, str] | None = None
    """None: those of a device that is registered already, otherwise none."""
    replaces: bool = False
    """If the device is registered already, it gets a new token, and its old one ends."""


@dataclass(slots=True)
class EnrolmentRequest:
    """The request of a device to be registered; times are ns since 1970."""

    id: str
    claim: str
    """The code that the device shows, for an operator to compare."""
    secret_sha256: bytes | None = field(repr=False)
    """Of the secret by which the device proves later that the request is its own; None: it has no secret."""
    address: str
    since_ns: int
    expires_ns: int
    info: dict[str, Any] = field(default_factory=dict)
    """What the device tells about itself."""
    contested: bool = False
    """Another device has shown the same claim."""
    decision: EnrolmentDecision | None = None
    """None while the request is pending."""
    delivered_ns: int = 0
    """When the token was made; 0: not yet."""

    @property
    def key(self) -> EnrolmentKey:
        """Identifies the request."""
        return self.id, self.claim

    @property
    def approval(self) -> EnrolmentDecision | None:
        """The decision, if it is an approval."""
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
        """Raises: GatewayError if a newer gateway wrote the file, sqlite3.Error if it cannot be used."""
        self._lock = threading.Lock()
        # NORMAL: a power cut may lose the newest requests and decisions. Then they are made again.
        self._db = open_store(path, "enrolments", LAYOUT_VERSION, _SCHEMA, synchronous="NORMAL")

    def waiting(self, now_ns: int) -> list[EnrolmentRequest]:
        """The requests that have not expired, the oldest first."""
        with self._lock:
            return self._list("expires_ns > ?", now_ns)

    def _list(self, where: str, *values: Any) -> list[EnrolmentRequest]:
        rows = self._db.execute(f"SELECT * FROM enrolments WHERE {where} ORDER BY since_ns", values).fetchall()
        return [_request(row) for row in rows]

    def sync(self, changed: Collection[EnrolmentRequest], gone: Collection[EnrolmentKey]) -> list[EnrolmentRequest]:
        """Write the ``changed`` requests and delete the ``gone`` ones. Returns all requests that have a decision."""
        with self._lock:
            if changed or gone:
                with transaction(self._db) as db:
                    db.executemany("DELETE FROM enrolments WHERE device = ? AND claim = ?", gone)
                    db.executemany(_WRITE, [_row(request) for request in changed])
            return self._list("state <> ?", EnrolmentState.PENDING)

    def write(self, request: EnrolmentRequest) -> None:
        """Write a request that has changed."""
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
        """Write a decision about the pending request of ``device``. Returns the request with the decision.

        ``claim`` may be None if there is only one request. ``accept`` is called last; if it raises, nothing is decided.

        Raises:
            UnknownEnrolment: there is no such request.
            EnrolmentConflict: there are several, or two devices have shown this claim.
        """
        with self._lock, transaction(self._db) as db:
            waiting = self._list("state = ? AND expires_ns > ? AND device = ?", EnrolmentState.PENDING, now_ns, device)
            request = _only(device, claim, [request for request in waiting if claim in {None, request.claim}])
            if request.contested and decision.state is EnrolmentState.APPROVED:
                raise EnrolmentConflict(
                    f"two devices have shown the claim {request.claim}: refuse the request, and have your device make"
                    " a new claim"
                )
            accept()
            db.execute(_DECIDE, (*_decided(decision), *request.key))
        request.decision = decision
        return request

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _only(device: str, claim: str | None, found: list[EnrolmentRequest]) -> EnrolmentRequest:
    if not found:
        shown = "" if claim is None else " with this claim"
        raise UnknownEnrolment(f"no device {device[:128]} waits for approval{shown}")
    if len(found) > 1:
        claims = ", ".join(request.claim for request in found)
        raise EnrolmentConflict(f"several devices ask to be {device}: name the claim of the right one, of {claims}")
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
