from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.config import Config, ProfileSection, ServerSection, TlsSection
from gateway.config.tls import certificates_in
from gateway.http.certificate_expiry import DAY, NOTICE, CertificateExpiry, not_after, read_ends
from tests.support.authority import Authority
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def with_files(certificate: Path, client_ca: Path | None = None, of_profile: Path | None = None) -> Config:
    tls = TlsSection(certificate=certificate, key=certificate.with_suffix(".key"), client_ca=client_ca)
    return Config(server=ServerSection(tls=tls), profiles={"kiln": ProfileSection(client_ca=of_profile)})


@pytest.mark.parametrize("days", [1, 13, 20_000])
def test_the_end_of_a_certificate_is_what_openssl_made_it(authority: Authority, days: int) -> None:
    """The last is beyond 2049, where the form of the time changes."""
    certificate, _ = authority.issue("short", "/CN=gateway", "IP:127.0.0.1", days=days)
    [der] = certificates_in(certificate)
    assert not_after(der) == pytest.approx(time.time() + days * DAY, abs=60)


def test_the_warning_names_the_first_certificate_of_a_chain_to_end(authority: Authority, tmp_path: Path) -> None:
    for days in (20, 5, 10):
        certificate, _ = authority.issue(f"of-{days}", "/CN=gateway", days=days)
        with (tmp_path / "chain.pem").open("a") as chain:
            chain.write(f"# {days} days\n{certificate.read_text()}")
    [warning] = CertificateExpiry(read_ends(with_files(tmp_path / "chain.pem"))).warnings()
    [der] = certificates_in(tmp_path / "of-5.pem")
    end = datetime.fromtimestamp(not_after(der), UTC).isoformat().replace("+00:00", "Z")
    assert warning == f"a certificate in {tmp_path}/chain.pem ends at {end}"


def test_every_file_with_certificates_is_looked_at(authority: Authority, tmp_path: Path) -> None:
    files = [authority.issue(name, f"/CN={name}", days=3)[0] for name in ("served", "devices", "kilns")]
    found = list(CertificateExpiry(read_ends(with_files(*files))).warnings())
    assert [str(file) in warning for file, warning in zip(files, found, strict=True)] == [True] * 3
    assert (
        list(CertificateExpiry(read_ends(with_files(authority.issue("long", "/CN=long", days=15)[0]))).warnings()) == []
    )
    assert list(CertificateExpiry(read_ends(Config())).warnings()) == []


@pytest.mark.parametrize("break_it", [Path.unlink, lambda path: path.write_text(PEM_OF_NOTHING)])
def test_an_unreadable_file_stops_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], object]
) -> None:
    certificate, _ = authority.issue("gone", "/CN=gone", days=1)
    break_it(certificate)
    assert list(CertificateExpiry(read_ends(with_files(certificate))).warnings()) == []
    assert f"when the certificates in {certificate} end is not known" in caplog.text


PEM_OF_NOTHING = ssl.DER_cert_to_PEM_cert(b"\x30\x02\x30\x00")


def test_warnings_begin_two_weeks_before_the_end(caplog: pytest.LogCaptureFixture) -> None:
    wall, monotonic = Clock(NOON), Clock(0.0)
    path = Path("/etc/served.pem")
    expiry = CertificateExpiry({path: NOON + NOTICE, Path("/etc/lasts.pem"): inf}, wall, monotonic)
    assert list(expiry.warnings()) == []
    wall.now += 1
    assert list(expiry.warnings()) == ["a certificate in /etc/served.pem ends at 2026-03-15T12:00:00Z"]
    wall.now += NOTICE
    assert list(expiry.warnings()) == ["a certificate in /etc/served.pem ended at 2026-03-15T12:00:00Z"]
    for seconds, told in ((0.0, 1), (0.5, 1), (DAY - 1.0, 1), (0.5, 2), (DAY - 1.0, 2), (1.0, 3)):
        monotonic.now += seconds
        expiry.log_warnings()
        assert caplog.messages.count("a certificate in /etc/served.pem ended at 2026-03-15T12:00:00Z") == told
