"""Every device the gateway knows: who is connected, by which socket, and what it said last.

Rules that hold here:

* One connection per device id; the newest wins and the older one is told so.
* A view changes when readings became durable, never before: a viewer sees only what is safe.
* Presence is data: each change of ``connected`` is also one point of measurement ``device_status``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.ledger import Entry, Kind
from gateway.reading import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.ledger import Account, Ledger

PRESENCE_MEASUREMENT = "device_status"


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

    def known(self) -> set[str]:
        """The ids of all devices that have connected or sent anything, before this start too."""
        return self.views.keys() | self._ledger.accounts.keys()

    def connected(self, device: str, connection: Connection, now_ns: int) -> DeviceView:
        """Make ``connection`` the device's only one."""
        view = self.view(device)
        older = view.connection
        if older is not None:
            self.disconnected(device, older, "replaced", now_ns - 1)  # a point of its own, before the next one
            older.replace()
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
