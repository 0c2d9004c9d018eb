"""A device that is to be registered, and what its id, its tags and its profile may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.config.names import check_device_id, check_tag
from gateway.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device to be registered, with a token that it has already, or None for a new one."""

    id: str
    profile: str
    tags: Mapping[str, str]
    token: str | None = field(default=None, repr=False)
    revoked: bool = False


def check_profile(profile: str, profiles: Collection[str]) -> None:
    """Accept the name of a profile for a new device.

    Raises:
        RegistryError: it is none of the configuration's ``profiles``.
    """
    if profile not in profiles:
        raise RegistryError(f"the configuration has no profile {profile}; it has {', '.join(profiles)}")


def check_device(device_id: str, tags: Mapping[str, str]) -> None:
    """Accept the id and the tags of a device.

    Spaces around a tag's name, which a table's heading may have, would make it another tag that looks the same.

    Raises:
        RegistryError: they cannot be any.
    """
    try:
        check_device_id(device_id)
        for name, value in tags.items():
            check_tag(name, value)
    except ValueError as error:
        raise RegistryError(str(error)) from error
    if any(name != name.strip() for name in tags):
        raise RegistryError("a tag's name does not begin or end with a space")
