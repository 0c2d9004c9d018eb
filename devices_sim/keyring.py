"""The tokens of simulated devices that enrol, and their claims and secrets, in a file that only its owner may read.

Rules that hold here:

* A device keeps its claim and its secret from run to run until it has a token, so that it makes one request only.
* The whole file is replaced before a token is used, so that a run that is killed loses no token.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET_BYTES = 16
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class KeyringError(Exception):
    """The file cannot be used; the text says why."""


class Keyring:
    """The file at ``path``, which may not exist yet. ``show`` is called with a device's id and its claim code.

    Raises:
        KeyringError: the file does not hold tokens.
    """

    def __init__(self, path: Path, show: Callable[[str, str], None]) -> None:
        self.show = show
        self._path = path
        self._devices: dict[str, dict[str, str]] = {}
        if path.exists():
            try:
                self._devices = {str(device): dict(held) for device, held in orjson.loads(path.read_bytes()).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise KeyringError(f"{path} holds no tokens of devices: {error}") from error

    def token(self, device: str) -> str | None:
        """The device's token; None if it has none."""
        return self._devices.get(device, {}).get("token")

    def enrolment(self, device: str) -> dict[str, str]:
        """The claim and the secret with which the device asks for a token."""
        if device not in self._devices:
            letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
            claim = f"{letters[:4]}-{letters[4:]}"
            self._devices[device] = {"claim": claim, "secret": secrets.token_urlsafe(SECRET_BYTES)}
            self._write()
        return self._devices[device]

    def keep(self, device: str, token: str) -> None:
        """Save the token of a device that was approved."""
        self._devices[device] = {"token": token}
        self._write()

    def _write(self) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(self._devices, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
