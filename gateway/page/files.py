"""The files of the page, as they are served.

Rules that hold here:

* The files are read once, when the gateway starts. So a page never meets a gateway of another version, and a request
  never looks for a name on the disk. Only files of a known kind are served.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).parent / "static"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}


class PageFile(NamedTuple):
    """A file as it is sent."""

    data: bytes
    etag: str
    kind: str


class PageFiles:
    """The files below ``directory`` as they are now, by name."""

    def __init__(self, directory: Path = STATIC) -> None:
        found = (path for path in directory.rglob("[!.]*") if path.suffix in KINDS)
        self._files = {path.relative_to(directory).as_posix(): _read(path) for path in found}

    def get(self, name: str) -> PageFile | None:
        """The file of that name; None if there is none, or none that is served."""
        return self._files.get(name)


def _read(path: Path) -> PageFile:
    data = path.read_bytes()
    return PageFile(data, f'"{sha256(data).hexdigest()[:32]}"', KINDS[path.suffix])
