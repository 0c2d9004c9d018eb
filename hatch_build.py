"""Build hook: puts uPlot, the page's charts, into wheels and editable installs.

Rules that hold here:

* uPlot is taken from a Python package that ships it, so that a build needs no npm and no CDN, and the repository holds
  no copy. The package is needed by the build only; it is never imported.
* A file is accepted only with the SHA-256 of uPlot's own release; the publisher of the package cannot change it.
* A file that is in place already is used, so that a second build needs neither the package nor a network.
"""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "youplot"
VENDOR = "gateway/page/static/vendor"
FILES = {
    "uPlot.iife.js": (
        "youplot/vendor/uplot.iife.min.js",
        "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
    ),
    "uPlot.min.css": (
        "youplot/vendor/uplot.min.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
}
"""By the name that the page loads: the path in the package, and the SHA-256 in uPlot 1.6.31."""


class UPlotHook(BuildHookInterface[Any]):
    """Runs for the targets wheel (``standard``) and editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to the wheel, or copy them into the source tree, which an editable install uses.

        Raises:
            RuntimeError: they are not to be found; the text says what to do.
        """
        for name, (inside, digest) in FILES.items():
            place = Path(self.root, VENDOR, name)
            source = place if _is(place, digest) else _shipped(inside, digest)
            if version != "editable":
                build_data["force_include"][str(source)] = f"{VENDOR}/{name}"
            elif source != place:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)


def _shipped(inside: str, digest: str) -> Path:
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        raise RuntimeError(
            f"the page's charts (uPlot) come from the Python package {PACKAGE}, which is not installed here. Build "
            "with isolation, or first install what pyproject.toml names at tool.hatch.build.targets.wheel.hooks.custom"
        ) from None
    path = Path(str(found.locate_file(inside)))
    if not _is(path, digest):
        raise RuntimeError(
            f"{path} of {PACKAGE} {found.version} is not the file of uPlot that hatch_build.py knows by its SHA-256; "
            "install the version that pyproject.toml names"
        )
    return path


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
