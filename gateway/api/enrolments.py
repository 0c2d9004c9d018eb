"""Devices that wait to be approved, over HTTP: looked at and decided about, by administrators.

Rule that holds here: what is approved is the claim that somebody compared, so an approval names it. Else another device
could have taken the first one's place between the look and the word.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from tornado.web import Finish, HTTPError

from gateway.api.handler import MALFORMED, ViewerHandler
from gateway.api.registry_changes import status_of, tags_of
from gateway.errors import RegistryError
from gateway.http.login import Role
from gateway.state.enrolments import Decision, State
from gateway.state.new_device import check_device, check_profile
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from gateway.devices.enrolment import Enrolment
    from gateway.state.enrolments import Request


class EnrolmentsHandler(ViewerHandler):
    """``GET /v1/enrolments``."""

    enrolment: Enrolment

    def prepare(self) -> None:
        """Refuse anyone but administrators: with a claim one could pass for the device."""
        self.permits(Role.ADMIN)

    def get(self) -> None:
        """Who waits for a decision, the oldest first; times in ms since 1970."""
        self.answer({"enrolments": self.enrolment.shown()})


class DecisionHandler(EnrolmentsHandler):
    """An endpoint that decides about a device that waits."""

    async def decide(self, device_id: str, claim: str | None, state: State, **decided: Any) -> Request:
        """What was asked for.

        Raises:
            Finish: it was refused, and said so.
        """
        expires_ns = time.time_ns() + round(self.active.config.auth.enrol_expiry * NS_PER_S)
        by = f"an administrator at {self.request.remote_ip}"
        try:
            decision = Decision(state, by, expires_ns, **decided)
            return await self.enrolment.decide(device_id, claim, decision)
        except RegistryError as error:
            self.refuse(*status_of(error), str(error))
        except sqlite3.Error as error:
            self.refuse(503, "enrolments", f"the decision could not be written down: {error}")
        raise Finish


class ApproveHandler(DecisionHandler):
    """``POST /v1/enrolments/{id}/approve``."""

    async def post(self, device_id: str) -> None:
        """Let it in, by ``{"claim","profile"?,"tags"?,"replace"?}``; it gets its token when it is connected."""
        body = self.body_object({"claim": str, "profile": str, "tags": dict, "replace": bool})
        if "claim" not in body:
            raise HTTPError(MALFORMED, "claim is missing: the code that the device shows, as it was compared")
        tags = tags_of(body["tags"]) if "tags" in body else None
        try:
            check_device(device_id, tags or {})
            if "profile" in body:
                check_profile(body["profile"], self.active.config.profiles)
        except RegistryError as error:
            return self.refuse(*status_of(error), str(error))
        decided = {"profile": body.get("profile"), "tags": tags, "replaces": body.get("replace", False)}
        request = await self.decide(device_id, body["claim"], State.APPROVED, **decided)
        return self.answer({"id": device_id, "claim": request.claim, "approved": True})


class RefuseHandler(DecisionHandler):
    """``POST /v1/enrolments/{id}/refuse``."""

    async def post(self, device_id: str) -> None:
        """Turn it away, by ``{"claim"?}``."""
        body = self.body_object({"claim": str}) if self.request.body else {}
        request = await self.decide(device_id, body.get("claim"), State.REFUSED)
        self.answer({"id": device_id, "claim": request.claim, "approved": False})
