"""The page and its files: ``GET /`` and ``GET /static/...``.

Rules that hold here:

* They are the same for everybody and hold no data: who may see what is the API's to judge.
* The files are read when the gateway starts, so a page never meets a gateway of another version, and no name that is
  asked for is ever looked for on the disk. Only names of a known kind count.
* Every answer, also that nothing is there, tells the browser to run and to load nothing but the gateway's own files.
* Browsers keep a file and ask whether it is still the same.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.api.handler import JsonErrors

if TYPE_CHECKING:
    from gateway.devices.context import Context

FILES = Path(__file__).parents[1] / "page" / "static"
INDEX = "index.html"
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
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy (W3C, level 3)."""


class File(NamedTuple):
    """A file as it is sent."""

    data: bytes
    etag: str
    kind: str


class Files:
    """The files below ``directory`` as they are now, by name."""

    def __init__(self, directory: Path = FILES) -> None:
        found = (path for path in directory.rglob("[!.]*") if path.suffix in KINDS)
        self._files = {path.relative_to(directory).as_posix(): _read(path) for path in found}

    def get(self, name: str) -> File | None:
        """The file of that name; None if there is none, or none that is served."""
        return self._files.get(name)


def _read(path: Path) -> File:
    data = path.read_bytes()
    return File(data, f'"{sha256(data).hexdigest()[:32]}"', KINDS[path.suffix])


class FileHandler(JsonErrors):
    """``GET /static/NAME``, and ``GET /`` for the page itself."""

    def initialize(self, context: Context) -> None:
        """Take what all requests share."""
        self._files = context.files
        self._etag: str | None = None

    def set_default_headers(self) -> None:
        """Bind the browser, whatever the answer will be."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "no-referrer")

    def get(self, name: str = INDEX) -> None:
        """Send the file, or say that the browser has it."""
        file = self._files.get(name)
        if file is None:
            return self.refuse(404, "not_found", f"there is nothing at {self.request.path[:200]}")
        self._etag = file.etag
        self.set_header("Content-Type", file.kind)
        self.set_header("Cache-Control", "no-cache")
        self.finish(file.data)
        return None

    head = get

    def compute_etag(self) -> str | None:
        """The file's, which Tornado compares with ``If-None-Match``."""
        return self._etag
