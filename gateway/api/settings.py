"""``/v1/devices/{id}/settings``: the desired settings of a device, and those it has reported."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from tornado.web import HTTPError

from gateway.api.commands import DownlinkHandler
from gateway.api.handler import MALFORMED
from gateway.protocol.merge_patch import check_value
from gateway.state.device_settings import SettingsTooLarge, VersionConflict

if TYPE_CHECKING:
    from gateway.devices.settings import SettingsExchange


class SettingsHandler(DownlinkHandler):
    """``/v1/devices/{id}/settings``."""

    device_settings: SettingsExchange

    async def get(self, device_id: str) -> None:
        """The desired settings, those the device has reported, and the difference."""
        self.require(device_id)
        try:
            twin = await self.device_settings.show(device_id)
        except sqlite3.Error as error:
            return self.refuse(503, "settings", f"settings: {error}")
        return self.answer(twin.shown())

    async def put(self, device_id: str) -> None:
        """Merge ``{"settings":{..},"version"?}`` into the desired settings, if they still have that ``version``."""
        self.require(device_id)
        body = self.body_object({"settings": dict, "version": int})
        patch, version = body.get("settings"), body.get("version")
        if patch is None:
            raise HTTPError(MALFORMED, "settings are needed, what should be changed in them: null deletes a key")
        if isinstance(version, bool):
            raise HTTPError(MALFORMED, "version is the number of the one that was looked at")
        try:
            check_value(patch)
        except ValueError as error:
            raise HTTPError(MALFORMED, f"settings: {error}") from None
        try:
            twin = await self.device_settings.change(device_id, patch, version, *self.caller())
        except VersionConflict as error:
            return self.refuse(409, "version_conflict", str(error), version=error.version)
        except SettingsTooLarge as error:
            return self.refuse(413, "too_large", str(error))
        except sqlite3.Error as error:
            return self.refuse(503, "settings", f"the settings could not be written and were not sent: {error}")
        return self.answer(twin.shown())
