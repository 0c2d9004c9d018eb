"""Every device the gateway knows, by its id, with its state and its connection if it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gateway.devices.device_view import OFFLINE, STATES, DeviceView
from gateway.ledger import Account

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable, Generator

    from gateway.devices.device_connection import DeviceConnection
    from gateway.ledger import Entry, Ledger

MAX_DEVICES = 200_000
"""Devices known at the same time: each has an account and a view, in memory and in every checkpoint."""
STEP = 512
"""Devices that a census counts before the event loop serves others."""


class FleetListener(Protocol):
    """Gets every change while there are viewers."""

    def data(self, view: DeviceView, entry: Entry) -> None:
        """``entry`` is durable, and its values are in the view."""
        ...

    def presence(self, view: DeviceView) -> None:
        """The device connected or disconnected."""
        ...


class Fleet:
    """The views of all devices, made as devices are first heard of."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.views: dict[str, DeviceView] = {}
        """By device id; those heard of since the start."""
        self.watcher: FleetListener | None = None
        """None while there are no viewers."""
        self.awaiting: set[str] = set()
        """The connected devices with ack level "stored"."""

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

        ``differs`` gets each device whose state is not the one that viewers were told last, and that state.
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
        return device in self.views or len(self.views) < MAX_DEVICES

    def busy(self, device: str, now_ns: int) -> str | None:
        """Why ``device`` cannot be served now; None if it can."""
        if not self.has_room(device):
            return "too many devices are known"
        if device in self.views and self.views[device].fought_over(now_ns):
            return "connections of this id keep taking over from each other"
        return None

    def look(self, device: str) -> DeviceView:
        """The view of ``device`` for reading: a device that was never heard of stays unknown."""
        return self.views.get(device) or DeviceView(device, self._ledger.accounts.get(device) or Account())

    def connection(self, device: str) -> DeviceConnection | None:
        """The socket of ``device``, if it has one."""
        view = self.views.get(device)
        return None if view is None else view.connection

    def known(self) -> dict_keys[str, Any]:
        """The ids of all devices that have connected or sent anything, before this start too."""
        return self._ledger.accounts.keys()  # a view has an account

    def connection_changed(
        self, view: DeviceView, connection: DeviceConnection | None, reason: str, now_ns: int
    ) -> None:
        """``connection`` is the device's from now on; None: it is not connected, for this ``reason``."""
        view.connection, view.changed_ns, view.reason = connection, now_ns, reason
        self.awaiting.discard(view.id)
        if self.watcher is not None:
            self.watcher.presence(view)
