"""A device of the registry, with its tokens; and what the id, the tags and the profile of a new one may be.

Rules that hold here:

* Of a token only the SHA-256 is kept. A device without a token has the hash `NO_TOKEN`, which no token has, so that
  every comparison can be made and takes the same time.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gateway.config.names import check_device_id, check_tag
from gateway.config.sections import DEFAULT_PROFILE
from gateway.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TOKEN_BYTES = 32
NO_TOKEN = secrets.token_bytes(32)
"""In the place of a hash where there is no token: random bytes, new in every process."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device."""

    id: str
    profile: str = DEFAULT_PROFILE
    tags: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    """When it was registered, in ns since 1970."""
    changed_ns: int = 0
    """When its token was made or revoked, in ns since 1970."""
    revoked: bool = False
    """It has no token."""
    old_until_ns: int = 0
    """Until when its previous token is valid too, in ns since 1970; 0 without such a token."""
    proof: bytes = field(default=b"", repr=False, compare=False)
    """The hash of the token that it authenticated with; empty if it authenticated by something else."""


class DeviceRow(NamedTuple):
    """A device and the hashes of its tokens, `NO_TOKEN` where it has none."""

    device: Device
    token: bytes
    old: bytes
    """The previous token, valid until `Device.old_until_ns`."""

    def counts(self, token: bytes, now_ns: int) -> bool:
        """Whether the device may connect with a token of this hash."""
        return token == self.token or (token == self.old and now_ns < self.device.old_until_ns)


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device that is to be registered."""

    id: str
    profile: str
    tags: Mapping[str, str]
    token: str | None = field(default=None, repr=False)
    """The token that it has already; None: it gets a new one."""
    revoked: bool = False
    """It gets no token."""


def new_token() -> str:
    """256 random bits as text. It never begins with ``-``, which a command would read as an option,
    and a spreadsheet as a formula.
    """
    while (token := secrets.token_urlsafe(TOKEN_BYTES)).startswith("-"):
        pass
    return token


def hashed(token: str) -> bytes:
    """The SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def check_profile(profile: str, profiles: Collection[str]) -> None:
    """Check the profile of a new device.

    Raises:
        RegistryError: it is none of the configuration's ``profiles``.
    """
    if profile not in profiles:
        raise RegistryError(f"the configuration has no profile {profile}; it has {', '.join(profiles)}")


def check_device(device_id: str, tags: Mapping[str, str]) -> None:
    """Check the id and the tags of a device.

    Spaces around a tag's name, which the header of a CSV file may have, would make another tag that looks the same.

    Raises:
        RegistryError: the id or a tag is not allowed.
    """
    try:
        check_device_id(device_id)
        for name, value in tags.items():
            check_tag(name, value)
    except ValueError as error:
        raise RegistryError(str(error)) from error
    if any(name != name.strip() for name in tags):
        raise RegistryError("a tag's name does not begin or end with a space")
