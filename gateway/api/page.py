"""The page and its files: ``GET /`` and ``GET /static/...``.

Rules that hold here:

* The files are the same for every viewer and hold no data. The API decides what a viewer may see.
* Every answer, a 404 too, allows the browser to run and load the gateway's own files only.
* Browsers keep a file and ask whether it has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.handler import JsonErrors

if TYPE_CHECKING:
    from gateway.page.files import PageFiles

INDEX = "index.html"
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


class FileHandler(JsonErrors):
    """``GET /static/NAME``, and ``GET /`` for the page itself."""

    page_files: PageFiles

    def initialize(self, page_files: PageFiles) -> None:
        """Take the files of the page."""
        self.page_files = page_files
        self._etag: str | None = None

    def set_default_headers(self) -> None:
        """Bind the browser, whatever the answer will be."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "no-referrer")

    def get(self, name: str = INDEX) -> None:
        """Send the file, or say that the browser has it."""
        file = self.page_files.get(name)
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
