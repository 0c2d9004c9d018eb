"""A certificate for loopback, made by the openssl command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_certificate(directory: Path, *addresses: str) -> tuple[Path, Path]:
    """A self-signed certificate for ``addresses`` (127.0.0.1), valid for a month, and its key: PEM files."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    names = ",".join(f"IP:{address}" for address in addresses or ("127.0.0.1",))
    subject = ["-subj", "/CN=127.0.0.1", "-addext", f"subjectAltName={names}", "-days", "30", "-nodes"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
