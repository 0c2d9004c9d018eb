from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from devices_sim.cli.options import read_certificates
from tests.support.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one that the system trusts, in its bundle and in a directory by its hash; a device has a certificate."""
    (tmp_path / "system").mkdir()
    authority = Authority(tmp_path / "system")
    subprocess.run(["openssl", "rehash", tmp_path / "system"], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "system"))
    certificate, key = authority.issue("device", "/CN=d1")
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "d1.pem").write_text(certificate.read_text() + key.read_text())
    return authority


def handshake(client: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    """Have ``client`` connect to a server with a ``certificate`` for localhost."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server, device = (
        serving.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname="localhost"),
    )
    for side in (device, server, device):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_the_system_s_authorities_are_not_loaded_for_every_device(authority: Authority, tmp_path: Path) -> None:
    client = read_certificates(tmp_path / "devices", None)["d1"]
    assert client.cert_store_stats()["x509"] == 0
    handshake(client, authority.issue("server", "/CN=server", "DNS:localhost"))
    assert client.cert_store_stats()["x509"] == 1, "the one it needed"
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("server", "/CN=server", "DNS:localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, stranger)


def test_a_directory_that_lacks_one_of_the_system_s_authorities_is_not_used(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(tmp_path, "other")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.path.read_text() + other.path.read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    client = read_certificates(tmp_path / "devices", None)["d1"]
    assert client.cert_store_stats()["x509"] == 2
    handshake(client, other.issue("server", "/CN=server", "DNS:localhost"))


def test_the_authorities_that_are_named_are_the_only_ones(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    client = read_certificates(tmp_path / "devices", other.path)["d1"]
    handshake(client, other.issue("server", "/CN=server", "DNS:localhost"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, authority.issue("own", "/CN=server", "DNS:localhost"))
