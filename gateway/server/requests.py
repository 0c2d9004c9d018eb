"""What every request handler does the same way: errors as JSON, and who may do what."""

from __future__ import annotations

import http
import logging
from typing import TYPE_CHECKING, Any

import orjson
from tornado.web import HTTPError, RequestHandler

from gateway.config import ListenAddress

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

    from gateway.server.context import Context

log = logging.getLogger(__name__)

MALFORMED = 400


def bearer_token(request: HTTPServerRequest) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750 section 2.1), or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


class JsonErrors(RequestHandler):
    """Errors as ``{"error":{"code","message"}}``, also those that Tornado raises itself."""

    def refuse(self, status: int, code: str, message: str, **more: Any) -> None:
        """Answer with an error; ``more`` goes into the error object."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        if status == http.HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        self.finish(orjson.dumps({"error": {"code": code, "message": message, **more}}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Put an error of Tornado's or a bug of ours into the same form."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        phrase = http.HTTPStatus(status_code).phrase if status_code in list(http.HTTPStatus) else "Error"
        message = error.log_message if isinstance(error, HTTPError) and error.log_message else phrase
        self.refuse(status_code, phrase.lower().replace(" ", "_"), message)


class ApiHandler(JsonErrors):
    """A JSON endpoint of the API."""

    def initialize(self, context: Context) -> None:
        """Take what all requests share."""
        self.context = context

    def answer(self, body: Any, status: int = 200) -> None:
        """Send ``body`` as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS))

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole-number query argument between ``low`` and ``high``; 400 otherwise."""
        text = self.get_query_argument(name, str(default))
        if not text.isdecimal() or not low <= int(text) <= high:
            raise HTTPError(MALFORMED, f"{name} must be a whole number from {low} to {high}, not {text[:40]!r}")
        return int(text)


class ViewerHandler(ApiHandler):
    """An endpoint for those who may look."""

    def prepare(self) -> None:
        """Refuse anyone else."""
        if not self.context.is_viewer(bearer_token(self.request)):
            self.refuse(401, "unauthorized", "this needs the viewer or admin token: Authorization: Bearer TOKEN")


class OperationsHandler(ApiHandler):
    """An endpoint for monitoring: anyone on this machine, or a viewer."""

    def prepare(self) -> None:
        """Refuse anyone else."""
        here = ListenAddress(self.request.remote_ip or "", 0).loopback
        if not here and not self.context.is_viewer(bearer_token(self.request)):
            self.refuse(401, "unauthorized", "from another machine this needs the viewer or admin token")


class NotFound(JsonErrors):
    """Any path that is none of ours."""

    def prepare(self) -> None:
        """Say so."""
        self.refuse(404, "not_found", f"there is nothing at {self.request.path[:200]}")
