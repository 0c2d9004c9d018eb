"""``/v1/enrolments``: the devices that wait for approval, and an administrator's decision about one.

Rule that holds here: an approval names the claim that the administrator compared. Otherwise another device could take
the place of the compared one before the approval.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from tornado.web import Finish, HTTPError

from gateway.api.handler import MALFORMED, ViewerHandler
from gateway.api.registry_changes import status_of, tags_of
from gateway.errors import RegistryError
from gateway.http.login_cookies import Role
from gateway.state.enrolments import EnrolmentDecision, EnrolmentState
from gateway.state.registered_device import check_device, check_profile
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from gateway.devices.enrolment import Enrolment
    from gateway.state.enrolments import EnrolmentRequest


class EnrolmentsHandler(ViewerHandler):
    """``GET /v1/enrolments``."""

    enrolment: Enrolment

    def prepare(self) -> None:
        """Refuse all but administrators: a client that knows a claim could pass for the device."""
        self.permits(Role.ADMIN)

    def get(self) -> None:
        """The requests without a decision, the oldest first; times in ms since 1970."""
        self.answer({"enrolments": self.enrolment.shown()})


class DecisionHandler(EnrolmentsHandler):
    """An endpoint that decides about a request."""

    async def decide(
        self, device_id: str, claim: str | None, state: EnrolmentState, **decided: Any
    ) -> EnrolmentRequest:
        """The request, decided.

        Raises:
            Finish: it could not be decided, and the client was told why.
        """
        expires_ns = time.time_ns() + round(self.active.config.auth.enrol_expiry * NS_PER_S)
        by = f"an administrator at {self.request.remote_ip}"
        try:
            decision = EnrolmentDecision(state, by, expires_ns, **decided)
            return await self.enrolment.decide(device_id, claim, decision)
        except RegistryError as error:
            self.refuse(*status_of(error), str(error))
        except sqlite3.Error as error:
            self.refuse(503, "enrolments", f"the decision could not be written: {error}")
        raise Finish


class ApproveHandler(DecisionHandler):
    """``POST /v1/enrolments/{id}/approve``."""

    async def post(self, device_id: str) -> None:
        """Approve it, by ``{"claim","profile"?,"tags"?,"replace"?}``. It gets its token when it is connected."""
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
        request = await self.decide(device_id, body["claim"], EnrolmentState.APPROVED, **decided)
        return self.answer({"id": device_id, "claim": request.claim, "approved": True})


class RefuseHandler(DecisionHandler):
    """``POST /v1/enrolments/{id}/refuse``."""

    async def post(self, device_id: str) -> None:
        """Refuse it, by ``{"claim"?}``."""
        body = self.body_object({"claim": str}) if self.request.body else {}
        request = await self.decide(device_id, body.get("claim"), EnrolmentState.REFUSED)
        self.answer({"id": device_id, "claim": request.claim, "approved": False})
