"""Logins of people: a signed cookie tells the role of a browser, and nothing is kept per login.

Rules that hold here:

* A cookie is signed with a key made of the gateway's secret and the token that it was given for. So all cookies of a
  role end when the operator changes the token of that role, and none is valid without the secret.
* Only the role of a cookie is used before its signature is verified, to choose the key.
* A login that was ended is remembered until it would have expired, so that a copy of its cookie gives no access.
"""

from __future__ import annotations

import base64
import hmac
import logging
import os
import secrets
import time
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.config import AuthSection

log = logging.getLogger(__name__)

LIFETIME = 12 * 3600
"""Seconds."""
SECRET_FILE = "session.key"  # noqa: S105 - the name of the file
SECRET_BYTES = 32
MAX_ENDED = 10_000
"""Ended logins that are remembered; beyond that, the one that ended first is forgotten."""
_OTHERS = 0o077
"""The mode bits of group and others."""


class Role(IntEnum):
    """What a client may do over HTTP. Each role includes the ones above it here."""

    NONE = 0
    VIEWER = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True)
class Login:
    """What a cookie says. ``expires`` is in seconds since 1970; ``csrf`` has to come with every change."""

    id: str
    role: Role
    expires: int
    csrf: str


class Logins:
    """Makes and reads the cookies of one gateway."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._ended: dict[str, int] = {}
        """Ids of logins that were ended before they expired, with the time at which they expire."""
        # Browsers send a host's cookies to all of its ports: gateways on one machine must not overwrite each other's.
        self.cookie_name = f"gateway-{sha256(b'name' + secret).hexdigest()[:8]}"

    def begin(self, role: Role, auth: AuthSection) -> str:
        """The cookie of a new login; the token of ``role`` must be configured."""
        said = f"{role.name}.{int(self._clock()) + LIFETIME}.{secrets.token_urlsafe(16)}"
        return f"{said}.{self._sign(said, role, auth)}"

    def read(self, cookie: str, auth: AuthSection) -> Login | None:
        """The login of a cookie; None if it is forged, expired, ended, or was given for a token that has changed."""
        said, _, signature = cookie.rpartition(".")
        role = {"VIEWER": Role.VIEWER, "ADMIN": Role.ADMIN}.get(said.partition(".")[0])
        if role is None or token_of(role, auth) is None:
            return None
        if not hmac.compare_digest(self._sign(said, role, auth).encode(), signature.encode(errors="surrogatepass")):
            return None
        _, expires, login_id = said.split(".")
        login = Login(login_id, role, int(expires), self._sign(f"csrf.{login_id}", role, auth))
        return login if self.lasts(login) else None

    def lasts(self, login: Login) -> bool:
        """Whether a login was neither ended nor has expired; its token is not checked."""
        # A login that lasts longer than `LIFETIME` was begun while the clock was ahead; it would last too long.
        return 0 < login.expires - self._clock() <= LIFETIME and login.id not in self._ended

    def end(self, login: Login) -> None:
        """Make a login's cookie invalid."""
        now = self._clock()
        self._ended = {ended: expires for ended, expires in self._ended.items() if expires > now}
        if len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[login.id] = login.expires

    def _sign(self, text: str, role: Role, auth: AuthSection) -> str:
        key = hmac.digest(self._secret, f"{role.name}.{token_of(role, auth)}".encode(), sha256)
        digest = hmac.digest(key, text.encode(errors="surrogatepass"), sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def token_of(role: Role, auth: AuthSection) -> str | None:
    """The configured token of a role; None without one."""
    token = {Role.ADMIN: auth.admin_token, Role.VIEWER: auth.viewer_token}.get(role)
    return None if token is None else token.get_secret_value()


def load_secret(path: Path) -> bytes:
    """The gateway's secret. A new one is made if there is none, if it is damaged, or if others may read it.

    Raises:
        OSError: the file can be neither read nor written.
    """
    try:
        secret, mode = path.read_bytes(), path.stat().st_mode
    except FileNotFoundError:
        return _new_secret(path)
    if len(secret) == SECRET_BYTES and not mode & _OTHERS:
        return secret
    log.warning("%s is damaged or others may read it: a new one is made, and all people have to log in again", path)
    return _new_secret(path)


def _new_secret(path: Path) -> bytes:
    secret = secrets.token_bytes(SECRET_BYTES)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secret)
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)
    return secret
