"""``/v1/session``: the role of the client, logging in and logging out.

Rules that hold here:

* A token is sent once, in the body of the request that logs in. No script can read what the browser keeps.
* Neither logging in nor logging out may come from the page of another origin.
* A client without a role learns neither the name nor the version of what runs here.
"""

from __future__ import annotations

import platform
from typing import Any

from tornado.web import HTTPError

from gateway import __version__
from gateway.api.handler import MALFORMED, ApiHandler
from gateway.http.access import Grant, is_cross_origin
from gateway.http.login_cookies import LIFETIME, Role, token_of


class LoginHandler(ApiHandler):
    """``GET``, ``POST`` and ``DELETE /v1/session``."""

    def get(self) -> None:
        """Answer with the role, and the CSRF token that changes by cookie need."""
        self._tell(self.grant())

    def post(self) -> None:
        """Log in with ``{"token":".."}``."""
        if is_cross_origin(self.request):
            return self.refuse(403, "bad_origin", "the page of another origin cannot log in here")
        token = self.body_object({"token": str}).get("token")
        if not token:
            raise HTTPError(MALFORMED, 'expected {"token":".."}')
        access, auth = self.access, self.active.config.auth
        role = access.role_of(token, self.request, auth)
        if role is Role.NONE:
            return self.refuse(401, "wrong_token", "this is neither the viewer's token nor the admin's")
        cookie = access.logins.begin(role, auth)
        self.set_cookie(access.cookie_name(self.request), cookie, max_age=LIFETIME, **self._attributes())
        return self._tell(Grant(role, token, access.logins.read(cookie, auth)))

    def delete(self) -> None:
        """Log out. A copy of the cookie is worth nothing from then on."""
        access, login = self.access, self.grant().login
        if login is not None:
            if not self.may_change_by(login):
                return None
            access.logins.end(login)
            access.enforce(self.active.config.auth)
            self.clear_cookie(access.cookie_name(self.request), **self._attributes())
        return self._tell(self.grant())

    def _attributes(self) -> dict[str, Any]:
        return {"httponly": True, "samesite": "Strict", "secure": self.request.protocol == "https"}

    def _tell(self, grant: Grant) -> None:
        auth, known = self.active.config.auth, grant.role is not Role.NONE
        self.answer(
            {
                "role": grant.role.name.lower(),
                "csrf": None if grant.login is None else grant.login.csrf,
                "login": any(role > grant.role and token_of(role, auth) is not None for role in Role),
                "version": __version__ if known else None,
                "name": platform.node() if known else None,
            }
        )
