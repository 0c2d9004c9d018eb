"""What a database's answer to a batch means.

Rules that hold here:

* No result loses a point: a batch is `Stored`, written again (`RetryLater`, `OperatorNeeded`), or cut until the point
  that the database refuses stands alone and becomes a dead letter (`PointRefused`, `BatchTooLarge`).
* 400 and 422 never say reliably which point was bad (InfluxDB 1.6.7 stores the others and even reports ``dropped=0``
  for a malformed line), so they mean "unknown which".
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CONFLICT = "type_conflict"
"""Kind of a refusal because a field has another type in the database."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Every line of the batch is in the database."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The database could not take it now: network, 429, 5xx. ``after`` is its Retry-After in seconds."""

    kind: str
    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class OperatorNeeded:
    """An operator has to act first (401, 403, 404): everything is kept and tried again slowly."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class PointRefused:
    """At least one line was refused, unknown which; ``reason`` is in the database's own words."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class BatchTooLarge:
    """The batch as a whole is over the database's size limit (413)."""

    kind: str
    reason: str


WriteResult = Stored | RetryLater | OperatorNeeded | PointRefused | BatchTooLarge
