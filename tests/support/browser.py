"""Headless Chromium as Debian ships it, driven through its own chromedriver."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.support.servers import binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",  # a run over TLS has a certificate of its own
)


@contextlib.contextmanager
def browser(profile: Path, *more: str) -> Iterator[Chrome]:
    """A browser with an empty profile and ``more`` arguments, ended with the block."""
    options = ChromeOptions()
    options.binary_location = binary("chromium", "chromium")
    for argument in (*ARGUMENTS, *more, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    driver = Chrome(options=options, service=ChromeService(binary("chromedriver", "chromium-driver")))
    try:
        yield driver
    finally:
        driver.quit()
