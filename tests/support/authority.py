"""A certificate authority of the test's own, by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


KEY_USAGE = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]


class Authority:
    """Its certificate is ``path``; what it issues is beside it.

    One ``for_servers`` says what its key is for, which clients want to know that are written in Python 3.13 or later
    (`ssl.VERIFY_X509_STRICT`). Others are as openssl makes them when nobody asks for more.
    """

    def __init__(
        self, directory: Path, name: str = "authority", above: Authority | None = None, *, for_servers: bool = False
    ) -> None:
        self._directory = directory
        self.path = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        if above is None:
            about = ["-subj", f"/CN={name}", "-days", "30", *(KEY_USAGE if for_servers else [])]
            _openssl("req", "-x509", *KEY, *about, "-out", self.path, "-keyout", self._key)
        else:
            above.issue(name, f"/CN={name}", authority=True)

    def below(self, name: str) -> Authority:
        """An authority that this one has signed."""
        return Authority(self._directory, name, self)

    def issue(
        self, file: str, subject: str, alternative: str = "", *, days: int = 30, authority: bool = False
    ) -> tuple[Path, Path]:
        """Certificate and key for a ``subject``; one with ``days`` below 0 has expired."""
        certificate, key = self._directory / f"{file}.pem", self._directory / f"{file}.key"
        request, extension = self._directory / f"{file}.csr", self._directory / f"{file}.ext"
        lines = [f"subjectAltName={alternative}"] if alternative else []
        lines += ["basicConstraints=critical,CA:TRUE"] if authority else []
        extension.write_text("\n".join([*lines, "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid", ""]))
        _openssl("req", *KEY, "-subj", subject, "-out", request, "-keyout", key)
        by = ["-CA", self.path, "-CAkey", self._key, "-CAcreateserial", "-extfile", extension]
        _openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-out", certificate)
        return certificate, key


def client(trusted: Path, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """The TLS side of a client that trusts one authority and may have a certificate.

    Without TLS 1.3 unless the caller raises ``maximum_version``: `tests.support.modes` says what clients of two
    threads make of it.
    """
    context = ssl.create_default_context(cafile=trusted)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context
