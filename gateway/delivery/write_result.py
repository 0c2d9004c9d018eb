"""The result of writing a batch to a database.

Rules that hold here:

* No result loses a point. A batch is `Stored`; or it is written again later (`RetryLater`, `OperatorNeeded`); or it is
  cut until the point that the database refuses stands alone, and that point becomes a dead letter (`PointRefused`,
  `BatchTooLarge`).
* Status 400 and 422 never say reliably which point was bad: InfluxDB 1.6.7 stores the other points and reports
  ``dropped=0`` even for a malformed line. So `PointRefused` means "at least one point, unknown which".

``kind`` is a short word for metrics and filters, ``reason`` the text for a person, mostly the database's own.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CONFLICT = "type_conflict"
"""The kind of a refusal because a field has another type in the database."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Every point of the batch is in the database."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The database could not take the batch now: network, 429, 5xx. ``after`` is its Retry-After in seconds."""

    kind: str
    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class OperatorNeeded:
    """An operator has to act before the database takes a batch (401, 403, 404): the batch is kept, retried slowly."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class PointRefused:
    """The database refused at least one point, unknown which."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class BatchTooLarge:
    """The batch as a whole is over the database's size limit (413)."""

    kind: str
    reason: str


WriteResult = Stored | RetryLater | OperatorNeeded | PointRefused | BatchTooLarge
