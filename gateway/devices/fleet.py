"""Every device the gateway knows: its view, and the one connection that it may have.

Rules that hold here:

* One connection per device id; the newest wins and the older one is told so.
* Presence is data: each change of ``connected`` is also one point of measurement ``device_status``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from gateway.devices.device_state import OFFLINE, STATES, DeviceView
from gateway.ledger import Account, Entry, Kind
from gateway.line_protocol import Series

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable, Generator

    from gateway.devices.device_connection import Connection
    from gateway.ledger import Ledger

log = logging.getLogger(__name__)

PRESENCE_MEASUREMENT = "device_status"
MOST_DEVICES = 200_000
"""Devices known at the same time: each has an account and a view, in memory and in every checkpoint."""
STEP = 512
"""Devices that a census counts before others have their turn."""


class Watcher(Protocol):
    """Who hears of every change while somebody watches."""

    def data(self, view: DeviceView, entry: Entry) -> None:
        """``entry`` is durable and shown."""
        ...

    def presence(self, view: DeviceView) -> None:
        """The device came or went."""
        ...


class Fleet:
    """The views of all devices, made as devices are first heard of.

    ``record`` takes the presence entries and hands them to the spool.
    """

    def __init__(self, ledger: Ledger, record: Callable[[Entry], None]) -> None:
        self._ledger = ledger
        self._record = record
        self.views: dict[str, DeviceView] = {}
        self.watcher: Watcher | None = None
        """None while nobody watches."""
        self.awaiting: set[str] = set()
        """The devices whose connection wants to know what the database has."""

    def view(self, device: str) -> DeviceView:
        """The view of ``device``, made on first use."""
        found = self.views.get(device)
        if found is None:
            found = self.views[device] = DeviceView(device, self._ledger.account(device))
        return found

    def show(self, *entries: Entry) -> None:
        """Messages of devices are durable; nothing else may be among ``entries``."""
        views, watcher = self.views, self.watcher
        for entry in entries:
            if entry.lines:
                view = views.get(entry.device) or self.view(entry.device)
                view.show(entry)
                if watcher is not None:
                    watcher.data(view, entry)

    def census(
        self, now_ns: int, differs: Callable[[DeviceView, str], None] | None = None
    ) -> Generator[None, None, dict[str, int]]:
        """How many known devices are in which state, counted in steps.

        ``differs`` hears of devices whose state is not the one that viewers heard last.
        """
        views = list(self.views.values())
        counts = dict.fromkeys(STATES, 0)
        for start in range(0, len(views), STEP):
            for view in views[start : start + STEP]:
                state, _ = view.state_at(now_ns)
                counts[state] += 1
                if state != view.told and differs is not None:
                    differs(view, state)
            yield
        counts[OFFLINE] += len(self.known()) - len(views)
        return counts

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

    def connection(self, device: str) -> Connection | None:
        """The socket of ``device``, if it has one."""
        view = self.views.get(device)
        return None if view is None else view.connection

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
            view.taken_over(now_ns)
            if view.fought_over(now_ns):
                text = "device %s: connections keep taking over from each other; two devices with one id?"
                log.warning(text, device, extra={"device": device})
        self._changed(view, connection, "connected", now_ns)
        return view

    def disconnected(self, device: str, connection: Connection, reason: str, now_ns: int) -> None:
        """Note that ``connection`` ended, unless a newer one has taken its place."""
        view = self.views[device]
        if view.connection is not connection:
            return
        self._changed(view, None, reason, now_ns)

    def _changed(self, view: DeviceView, connection: Connection | None, reason: str, now_ns: int) -> None:
        view.connection, view.changed_ns, view.reason = connection, now_ns, reason
        self.awaiting.discard(view.id)
        self._record(_presence(view.id, now_ns, connected=connection is not None, reason=reason))
        if self.watcher is not None:
            self.watcher.presence(view)


def _presence(device: str, now_ns: int, *, connected: bool, reason: str) -> Entry:
    series = Series(PRESENCE_MEASUREMENT, {"device": device})
    payload = series.line({"connected": connected, "reason": reason}, now_ns)
    return Entry(device, lines=1, payload=payload, kind=Kind.PRESENCE, arrived_ns=now_ns)
