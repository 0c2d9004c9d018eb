from __future__ import annotations

import hashlib
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from gateway.config import Config, ProfileSection, ServerSection, TlsSection
from gateway.config.tls import GENERAL, owners_of_authorities, server_context, unusable
from gateway.errors import GatewayError
from tests.support.certificate import make_certificate

if TYPE_CHECKING:
    from pathlib import Path


def with_files(certificate: Path | None, key: Path | None) -> Config:
    return Config(server=ServerSection(tls=TlsSection(certificate=certificate, key=key)))


def found(config: Config) -> list[str]:
    return [f"{'.'.join(conflict.paths[0])}: {conflict.text}" for conflict in unusable(config)]


def test_without_files_there_is_no_tls() -> None:
    assert found(Config()) == []
    assert server_context(Config()) is None


def test_a_good_pair_serves(tmp_path: Path) -> None:
    config = with_files(*make_certificate(tmp_path))
    assert found(config) == []
    assert isinstance(server_context(config), ssl.SSLContext)


def test_each_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path)
    assert found(with_files(tmp_path / "none", tmp_path)) == [
        f"server.tls.certificate: {tmp_path}/none cannot be read: No such file or directory",
        f"server.tls.key: {tmp_path} cannot be read: Is a directory",
    ]
    assert found(with_files(certificate, tmp_path / "none")) == [
        f"server.tls.key: {tmp_path}/none cannot be read: No such file or directory"
    ]


def test_an_authority_of_a_profile_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "empty.pem").write_text("nothing")
    tls = ServerSection(tls=TlsSection(certificate=certificate, key=key))

    def with_authority(path: Path) -> Config:
        return Config(server=tls, profiles={"kiln": ProfileSection(client_ca=path)})

    assert found(with_authority(certificate)) == []
    assert found(with_authority(tmp_path / "none")) == [
        f"profiles.kiln.client_ca: {tmp_path}/none cannot be read: No such file or directory"
    ]
    (problem,) = found(with_authority(tmp_path / "empty.pem"))
    assert f"the authorities in {tmp_path}/empty.pem cannot be used" in problem


def test_certificates_of_devices_are_judged_alike_by_every_python(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = TlsSection(certificate=certificate, key=key, client_ca=certificate)
    context = server_context(Config(server=ServerSection(tls=tls)))
    assert context is not None
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.verify_mode is ssl.CERT_OPTIONAL


def test_whose_authority_it_is_is_known_by_its_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    twice = tmp_path / "twice.pem"
    twice.write_text(f"a comment\n{certificate.read_text()}\n{certificate.read_text()}")
    tls = ServerSection(tls=TlsSection(certificate=certificate, key=key, client_ca=certificate))
    profiles = {"kiln": ProfileSection(client_ca=twice), "plain": ProfileSection()}
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).digest()
    assert owners_of_authorities(Config(server=tls, profiles=profiles)) == {sha256: {GENERAL, "kiln"}}
    assert owners_of_authorities(Config(profiles=profiles)) == {}


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, key = make_certificate(tmp_path)
    _, other = make_certificate(tmp_path / "other")
    (problem,) = found(with_files(certificate, other))
    assert problem.startswith(f"server.tls.certificate: {certificate} with the key {other} cannot be used: ")
    assert "MISMATCH" in problem
    with pytest.raises(GatewayError, match="cannot be used"):
        server_context(with_files(key, key))


def test_an_encrypted_key_is_told_and_its_password_not_asked_for(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    (problem,) = found(with_files(certificate, locked))
    assert f"{locked} cannot be used" in problem
