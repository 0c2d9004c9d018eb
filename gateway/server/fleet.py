"""Every device the gateway knows: who is connected, by which socket, and what it said last.

Rules that hold here:

* One connection per device id; the newest wins and the older one is told so.
* A view changes when readings became durable, never before: a viewer sees only what is safe.
* Presence is data: each change of ``connected`` is also one point of measurement ``device_status``.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.ledger import Account, Entry, Kind
from gateway.reading import Series

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable

    from gateway.ledger import Ledger

log = logging.getLogger(__name__)

PRESENCE_MEASUREMENT = "device_status"
MOST_LATEST = 512
"""Latest values kept of one device."""
MOST_TAKEOVERS = 16
"""Connections of one id that may take over from each other within a minute; the next ones are told to come later."""
MOST_DEVICES = 200_000
"""Devices known at the same time: each has an account and a view, in memory and in every checkpoint."""
MINUTE_NS = 60_000_000_000


class Connection(Protocol):
    """What the fleet asks of a device's socket."""

    session_id: str
    remote: str
    profile: str
    last_byte_at: float

    @property
    def info(self) -> dict[str, Any]:
        """What the device told about itself."""
        ...

    def dropped(self, boot: str, messages: int) -> None:
        """Tell the device that ``messages`` of its numbered messages of ``boot`` were discarded undelivered."""
        ...

    def replace(self) -> None:
        """Tell the device that a newer connection took over, and close."""
        ...

    def revoke(self) -> None:
        """Tell the device that its credentials no longer count, and close."""
        ...

    def stored(self, boot: str, messages: int) -> None:
        """Tell the device that the database has ``messages`` more of its numbered messages of ``boot``."""
        ...


@dataclass(slots=True)
class DeviceView:
    """What is known of one device right now; times in ns since 1970."""

    id: str
    account: Account
    connection: Connection | None = None
    changed_ns: int = 0
    last_data_ns: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    latest_ns: int = 0
    takeovers: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_TAKEOVERS))

    def show(self, entry: Entry) -> None:
        """Take over what a durable message measured; an old reading does not hide a newer one."""
        self.last_data_ns = entry.arrived_ns
        if entry.latest is None:
            return
        if entry.time_ns >= self.latest_ns:
            self.latest.update(entry.latest)
            self.latest_ns = entry.time_ns
        else:
            self.latest = {**entry.latest, **self.latest}
        while len(self.latest) > MOST_LATEST:
            del self.latest[next(iter(self.latest))]

    def fought_over(self, now_ns: int) -> bool:
        """Whether so many connections took over from each other that the id has to rest."""
        takeovers = self.takeovers
        return len(takeovers) == MOST_TAKEOVERS and (
            takeovers[-1] - takeovers[0] < MINUTE_NS and now_ns - takeovers[-1] < MINUTE_NS
        )

    @property
    def state(self) -> str:
        """``online`` while a socket is open, else ``offline``."""
        return "offline" if self.connection is None else "online"


class Fleet:
    """The views of all devices, made as devices are first heard of.

    ``record`` takes the presence entries and hands them to the spool.
    """

    def __init__(self, ledger: Ledger, record: Callable[[Entry], None]) -> None:
        self._ledger = ledger
        self._record = record
        self.views: dict[str, DeviceView] = {}

    def view(self, device: str) -> DeviceView:
        """The view of ``device``, made on first use."""
        found = self.views.get(device)
        if found is None:
            found = self.views[device] = DeviceView(device, self._ledger.account(device))
        return found

    def has_room(self, device: str) -> bool:
        """Whether ``device`` is known or can still become so."""
        return device in self.views or len(self.views) < MOST_DEVICES

    def busy(self, device: str, now_ns: int) -> str | None:
        """Why ``device`` cannot be served now; None if it can."""
        if not self.has_room(device):
            return "too many devices are known"
        if device in self.views and self.views[device].fought_over(now_ns):
            return "connections of this id keep taking over from each other"
        return None

    def look(self, device: str) -> DeviceView:
        """The view of ``device`` for those who only look: a device that was never heard of stays unknown."""
        return self.views.get(device) or DeviceView(device, self._ledger.accounts.get(device) or Account())

    def known(self) -> dict_keys[str, Any]:
        """The ids of all devices that have connected or sent anything, before this start too."""
        return self._ledger.accounts.keys()  # a view has an account

    def connected(self, device: str, connection: Connection, now_ns: int) -> DeviceView:
        """Make ``connection`` the device's only one."""
        view = self.view(device)
        older = view.connection
        if older is not None:
            self.disconnected(device, older, "replaced", now_ns - 1)  # a point of its own, before the next one
            older.replace()
            view.takeovers.append(now_ns)
            if view.fought_over(now_ns):
                log.warning("device %s: connections keep taking over from each other; two devices with one id?", device)
        view.connection, view.changed_ns = connection, now_ns
        self._record(_presence(device, now_ns, connected=True, reason="connected"))
        return view

    def disconnected(self, device: str, connection: Connection, reason: str, now_ns: int) -> None:
        """Note that ``connection`` ended, unless a newer one has taken its place."""
        view = self.views[device]
        if view.connection is not connection:
            return
        view.connection, view.changed_ns = None, now_ns
        self._record(_presence(device, now_ns, connected=False, reason=reason))


def _presence(device: str, now_ns: int, *, connected: bool, reason: str) -> Entry:
    series = Series(PRESENCE_MEASUREMENT, {"device": device})
    payload = series.line({"connected": connected, "reason": reason}, now_ns)
    return Entry(device, lines=1, payload=payload, kind=Kind.PRESENCE, arrived_ns=now_ns)
