"""The role of a request, from a bearer token, a login's cookie, or the place that the request comes from.

Rules that hold here:

* If a request has a bearer token, its cookie is ignored. A change by cookie needs the login's CSRF token as well.
* A response without an end is closed when the token or the login that allowed it ends.
* Reading needs no token if no viewer token is set, the gateway listens on this machine only, and the request comes from
  this machine under a name of this machine (`is_local`). That excludes a page whose name was made to lead here (DNS
  rebinding) and whatever comes through a proxy.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.config import ListenAddress
from gateway.http.client_address import came_through_proxy
from gateway.http.login_cookies import Login, Logins, Role, token_of
from gateway.http.token_guesses import TokenGuesses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado.httputil import HTTPServerRequest
    from tornado.iostream import IOStream

    from gateway.config import AuthSection, Config

log = logging.getLogger(__name__)

CSRF_HEADER = "X-CSRF-Token"
TOKEN_PREFIX = "bearer."  # noqa: S105 - what stands before a token


class TooManyGuesses(Exception):
    """The address has to wait for ``seconds`` before it may try a token again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may do: its role, the ``token`` that gave it (None: none is needed), and its ``login`` if any."""

    role: Role
    token: str | None = field(default=None, repr=False)
    login: Login | None = None


class Access:
    """Judges the requests to one gateway; ``secret`` signs its cookies."""

    def __init__(self, secret: bytes) -> None:
        self.logins = Logins(secret)
        self._guesses = TokenGuesses()
        self._endless: dict[IOStream, Grant] = {}
        """Open responses without an end, each with the grant that it needs."""

    def judge(self, request: HTTPServerRequest, config: Config) -> Grant:
        """What ``request`` may do.

        Raises:
            TooManyGuesses: it has a token, and its address may not try one now.
        """
        token = bearer_token(request)
        if token is not None:
            role, login = self.role_of(token, request, config.auth), None
        else:
            login = self._session(request, config.auth)
            role = Role.NONE if login is None else login.role
        if role is Role.NONE:
            return Grant(Role.VIEWER if _free(request, config) else Role.NONE)
        return Grant(role, token_of(role, config.auth), login)

    def bind(self, answer: IOStream, grant: Grant) -> None:
        """Have `enforce` close a response without an end once ``grant`` has ended."""
        self._endless[answer] = grant

    def enforce(self, auth: AuthSection) -> None:
        """Close the bound responses whose token or login has ended."""
        for answer, grant in list(self._endless.items()):
            if not self.lasts(grant, auth):
                answer.close()
            if answer.closed():
                del self._endless[answer]

    def lasts(self, grant: Grant, auth: AuthSection) -> bool:
        """Whether a grant is still valid."""
        if grant.login is not None and not self.logins.lasts(grant.login):
            return False
        return grant.token == token_of(grant.role, auth)

    def role_of(self, token: str, request: HTTPServerRequest, auth: AuthSection) -> Role:
        """The role that a token gives; a wrong token is counted.

        Raises:
            TooManyGuesses: the address may not try one now.
        """
        address = request.remote_ip or ""
        if (seconds := self._guesses.seconds_to_wait(address)) > 0:
            raise TooManyGuesses(seconds)
        fits = [role for role in (Role.VIEWER, Role.ADMIN) if _same(token_of(role, auth), token)]
        if not fits and self._guesses.count_wrong(address, token):
            log.warning(
                "many wrong tokens for HTTP came from %s: it has to wait between two of them from now on", address
            )
        return max(fits, default=Role.NONE)

    def cookie_name(self, request: HTTPServerRequest) -> str:
        """The name of the login's cookie. Over TLS, browsers accept this name only from this host and only over TLS."""
        return f"{'__Host-' if request.protocol == 'https' else ''}{self.logins.cookie_name}"

    def _session(self, request: HTTPServerRequest, auth: AuthSection) -> Login | None:
        cookie = request.cookies.get(self.cookie_name(request))
        return None if cookie is None else self.logins.read(cookie.value, auth)


def bearer_token(request: HTTPServerRequest) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750 section 2.1), or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def token_among(subprotocols: Sequence[str]) -> str | None:
    """The token that a browser offers as the WebSocket subprotocol ``bearer.TOKEN``; it cannot set headers there."""
    found = (name for name in subprotocols if name.startswith(TOKEN_PREFIX))
    return next((name.removeprefix(TOKEN_PREFIX) for name in found), None)


def without_token(subprotocols: Sequence[str]) -> list[str]:
    """The offered subprotocols that are no token."""
    return [name for name in subprotocols if not name.startswith(TOKEN_PREFIX)]


def is_local(request: HTTPServerRequest) -> bool:
    """Whether the request comes from this machine and names this machine as its host."""
    names = request.remote_ip or "", request.host_name.strip("[]")
    return all(ListenAddress(name, 0).loopback for name in names) and not came_through_proxy(request.headers)


def is_cross_origin(request: HTTPServerRequest) -> bool:
    """Whether a browser says that a page of another origin sends this (RFC 6454 section 7).

    The same host over https counts as the same origin, since a proxy may end TLS before the gateway.
    """
    origin = request.headers.get("Origin")
    host = request.host.lower()
    return origin is not None and origin.lower() not in {f"{request.protocol}://{host}", f"https://{host}"}


def origin_allowed(request: HTTPServerRequest, config: Config) -> bool:
    """Whether the page that sends this, if a page does, may speak as a device.

    The gateway's own page may. Without tokens, any page whose name was made to lead here (DNS rebinding) would count as
    that, so the request then has to come from this machine under a name of this machine.
    """
    origin, allowed = request.headers.get("Origin"), config.server.allowed_origins
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return not is_cross_origin(request) and (config.auth.mode == "token" or is_local(request))


def lacks_csrf_token(request: HTTPServerRequest, login: Login) -> bool:
    """Whether a change by cookie comes without the CSRF token, which only the gateway's own page can read."""
    given = request.headers.get(CSRF_HEADER, "")
    return not hmac.compare_digest(login.csrf.encode(), given.encode(errors="surrogatepass"))


def _free(request: HTTPServerRequest, config: Config) -> bool:
    return config.auth.viewer_token is None and config.server.listen.loopback and is_local(request)


def _same(expected: str | None, token: str) -> bool:
    return expected is not None and hmac.compare_digest(expected.encode(), token.encode(errors="surrogatepass"))
