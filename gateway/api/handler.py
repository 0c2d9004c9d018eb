"""What every request handler does the same way: errors as JSON, and the role that a request needs.

Rules that hold here:

* Reading needs the viewer role and changing the admin role, whatever the endpoint. What goes down to devices needs the
  admin role for reading, too.
* A change by cookie comes from the gateway's own page, and proves it by its CSRF token.
* No answer can be taken for another type than the one that it names.
"""

from __future__ import annotations

import http
import logging
import math
from typing import TYPE_CHECKING, Any

import orjson
from tornado.web import HTTPError, RequestHandler

from gateway.http.access import CSRF_HEADER, Grant, TooManyGuesses, is_cross_origin, is_local, lacks_csrf_token
from gateway.http.login_cookies import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config.active_config import ActiveConfig
    from gateway.devices.failed_credentials import FailedCredentials
    from gateway.http.access import Access
    from gateway.http.login_cookies import Login

log = logging.getLogger(__name__)

MALFORMED = 400
MAX_DIGITS = 20
"""Digits of an argument: Python refuses to convert thousands of them, with an error of its own."""

READING = "GET", "HEAD"
_JSON_TYPES = {str: "string", dict: "object", list: "array", int: "integer", bool: "boolean"}
UNAUTHORIZED = "unknown device, or not its token (Authorization: Bearer TOKEN) or certificate"
FOREIGN_ORIGIN = (
    "server.allowed_origins does not name the Origin of this request; a client that is no browser needs none"
)


class JsonErrors(RequestHandler):
    """Errors as ``{"error":{"code","message"}}``, also those that Tornado raises itself."""

    def set_default_headers(self) -> None:
        """Keep browsers from guessing a type (WHATWG Fetch, section 3.6)."""
        self.set_header("X-Content-Type-Options", "nosniff")

    def refuse(self, status: int, code: str, message: str, **more: Any) -> None:
        """Answer with an error; ``more`` goes into the error object."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        if status == http.HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        self.finish(orjson.dumps({"error": {"code": code, "message": message, **more}}))

    def refuse_credentials(self, failures: FailedCredentials, device_id: str) -> bool:
        """Refuse a device that is unknown or whose credentials are wrong; whether it has to wait."""
        seconds = failures.wrong(self.request.remote_ip or "", device_id)
        if not seconds:
            self.refuse(401, "unauthorized", UNAUTHORIZED)
            return False
        self._refuse_for(seconds)
        return True

    def refuse_for_now(self, failures: FailedCredentials, device_id: str) -> bool:
        """Refuse a device that brings no credentials in its request, if it has to wait; whether it has to."""
        seconds = failures.wait(self.request.remote_ip or "", device_id)
        if seconds:
            self._refuse_for(seconds)
        return seconds > 0

    def _refuse_for(self, seconds: float) -> None:
        self.set_header("Retry-After", str(math.ceil(seconds)))
        self.refuse(429, "too_many_failures", f"{UNAUTHORIZED}, again and again; wait {math.ceil(seconds)} s")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Put an error that Tornado raises, or a bug, into the same form."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, TooManyGuesses):
            self.set_header("Retry-After", str(math.ceil(error.seconds)))
            return self.refuse(429, "too_many_guesses", f"too many wrong tokens came from this address; {error}")
        phrase = http.HTTPStatus(status_code).phrase if status_code in list(http.HTTPStatus) else "Error"
        message = (error.get_message() if isinstance(error, HTTPError) else None) or phrase
        if status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            message = self._allow()
        return self.refuse(status_code, phrase.lower().replace(" ", "_"), message)

    def _allow(self) -> str:
        """Name the methods that this path has, as a 405 answer must (RFC 9110, section 15.5.6)."""
        inherited = {each: getattr(RequestHandler, each.lower()) for each in self.SUPPORTED_METHODS}
        allowed = ", ".join(each for each in inherited if getattr(type(self), each.lower()) is not inherited[each])
        self.set_header("Allow", allowed)
        return f"this path takes {allowed}, not {self.request.method}"

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Keep mistakes of clients from filling the log with tracebacks."""
        if not isinstance(value, TooManyGuesses):
            super().log_exception(typ, value, tb)


class ApiHandler(JsonErrors):
    """A JSON endpoint of the API.

    A handler names each service that it uses as an annotation of its class; `gateway.api.routes` gives it just those.
    """

    access: Access
    active: ActiveConfig

    def initialize(self, **services: Any) -> None:
        """Take the services that the class names."""
        for name, service in services.items():
            setattr(self, name, service)

    def answer(self, body: Any, status: int = 200) -> None:
        """Send ``body`` as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS))

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole-number query argument between ``low`` and ``high``; 400 otherwise."""
        text = self.get_query_argument(name, str(default))
        if not text.isdecimal() or len(text) > MAX_DIGITS or not low <= int(text) <= high:
            raise HTTPError(MALFORMED, f"{name} must be a whole number from {low} to {high}, not {text[:40]!r}")
        return int(text)

    def body_object(self, keys: Mapping[str, type]) -> dict[str, Any]:
        """The JSON object of the body, which has no keys but ``keys``, each of that type; 400 otherwise."""
        try:
            body = orjson.loads(self.request.body)
        except orjson.JSONDecodeError as error:
            raise HTTPError(MALFORMED, "the body must be a JSON object: %s", error) from None
        wrong = [key for key in body if not isinstance(body[key], keys.get(key, ()))] if isinstance(body, dict) else []
        if wrong or not isinstance(body, dict):
            known = ", ".join(f"{key} ({_JSON_TYPES[kind]})" for key, kind in keys.items())
            found = f"; {wrong[0][:40]!r} is {'of another type' if wrong[0] in keys else 'unknown'}" if wrong else ""
            raise HTTPError(MALFORMED, "%s", f"the body must be a JSON object of nothing but {known}{found}")
        return body

    def grant(self) -> Grant:
        """What this request may do now."""
        return self.access.judge(self.request, self.active.config)

    def permits(self, needed: Role) -> bool:
        """Whether this request has the role ``needed``; if not, it was refused."""
        grant = self.grant()
        if grant.role is Role.NONE:
            self.refuse(401, "unauthorized", f"this needs the {_TOKENS[needed]} token: Authorization: Bearer TOKEN")
        elif grant.role < needed:
            self.refuse(403, "forbidden", "this needs the admin token; it is auth.admin_token of the configuration")
        else:
            return grant.login is None or self.request.method in READING or self.may_change_by(grant.login)
        return False

    def may_change_by(self, login: Login) -> bool:
        """Whether this request comes from the page that ``login`` belongs to; if not, it was refused."""
        if is_cross_origin(self.request):
            self.refuse(403, "bad_origin", "the page of another origin cannot use the login here")
        elif lacks_csrf_token(self.request, login):
            self.refuse(403, "bad_csrf_token", f"this needs the header {CSRF_HEADER} with csrf of /v1/session")
        else:
            return True
        return False


_TOKENS = {Role.VIEWER: "viewer or admin", Role.ADMIN: "admin"}


class ViewerHandler(ApiHandler):
    """An endpoint that viewers may read, and administrators may change."""

    def prepare(self) -> None:
        """Refuse any other client."""
        self.permits(Role.VIEWER if self.request.method in READING else Role.ADMIN)


class OperationsHandler(ApiHandler):
    """An endpoint for monitoring: open to this machine, and to viewers."""

    def prepare(self) -> None:
        """Refuse any other client."""
        if not is_local(self.request):
            self.permits(Role.VIEWER)


class NotFound(JsonErrors):
    """A path that is not in the route table."""

    def prepare(self) -> None:
        """Say so."""
        self.refuse(404, "not_found", f"there is nothing at {self.request.path[:200]}")
