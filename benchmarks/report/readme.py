"""Puts the results between the markers of the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = "<!-- results: written by python -m benchmarks -->"
END = "<!-- end of results -->"


def publish(text: str, readme: Path) -> None:
    """Replace what is between the markers.

    Raises:
        ValueError: there are no markers.
    """
    whole = readme.read_text()
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no markers for the results")
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
