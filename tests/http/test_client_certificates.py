"""The issuer of a certificate, as far as no handshake is needed (tests/e2e/test_certificates.py has those)."""

from __future__ import annotations

import hashlib
import ssl
import sys
from typing import Any

import pytest

from gateway.config.tls import GENERAL
from gateway.http import client_certificates
from gateway.http.client_certificates import Authorities, Certificate


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Sock:
    """A TLS connection with a certificate ``leaf`` and the chain that was verified, empty where it was resumed."""

    def __init__(self, leaf: bytes, *above: bytes, resumed: bool = False) -> None:
        self.leaf = leaf
        self.chain = [] if resumed else [leaf, *above]

    def getpeercert(self, *, binary_form: bool) -> bytes:
        assert binary_form
        return self.leaf


@pytest.fixture(autouse=True)
def _chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_certificates, "verified_chain", lambda sock: sock.chain)


def authorities(**owners: set[str]) -> Authorities:
    return Authorities({sha256(name.encode()): frozenset(profiles) for name, profiles in owners.items()})


def issuer(known: Authorities, leaf: bytes, *above: bytes, resumed: bool = False) -> set[str]:
    sock: Any = Sock(leaf, *above, resumed=resumed)
    return set(known._issuer(known._chain(sock)))


def test_the_nearest_authority_that_is_named_has_issued_it() -> None:
    known = authorities(root={GENERAL}, works={"kiln"}, shared={"kiln", "oven"})
    assert issuer(known, b"leaf", b"works", b"root") == {"kiln"}
    assert issuer(known, b"leaf", b"unnamed", b"root") == {GENERAL}
    assert issuer(known, b"leaf", b"shared") == {"kiln", "oven"}
    assert issuer(known, b"works", b"root") == {"kiln"}
    assert issuer(known, b"leaf", b"nobody") == set()


def test_a_resumed_session_has_the_issuer_of_the_earlier_handshake() -> None:
    known = authorities(works={"kiln"})
    assert issuer(known, b"leaf", resumed=True) == set()
    assert issuer(known, b"leaf", b"works") == {"kiln"}
    assert issuer(known, b"leaf", resumed=True) == {"kiln"}
    assert issuer(known, b"other", resumed=True) == set()


def test_a_handshake_without_a_request_is_remembered_too() -> None:
    known = authorities(works={"kiln"})
    for leaf in (b"leaf", b""):
        sock: Any = Sock(leaf, b"works")
        known.handshake_done(sock)
    assert issuer(known, b"leaf", resumed=True) == {"kiln"}
    assert issuer(known, b"", resumed=True) == set()


def test_what_was_shown_before_a_reload_is_remembered_after_it_and_judged_anew() -> None:
    known = authorities(works={"kiln"})
    issuer(known, b"leaf", b"works")
    issuer(known, b"other", b"gone")
    known.renew({sha256(b"works"): frozenset({"oven"})})
    assert issuer(known, b"leaf", resumed=True) == {"oven"}
    assert issuer(known, b"other", resumed=True) == set()


def test_remembered_chains_are_bounded_and_a_forgotten_one_has_no_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_certificates, "MAX_REMEMBERED", 3)
    known = authorities(works={"kiln"})
    for n in range(4):
        issuer(known, b"%d" % n, b"works")
        issuer(known, b"0", resumed=True)
    assert [issuer(known, b"%d" % n, resumed=True) for n in range(4)] == [{"kiln"}, set(), {"kiln"}, {"kiln"}]


@pytest.mark.parametrize(
    ("owners", "profile", "allowed"),
    [
        ({"kiln"}, "kiln", True),
        ({"kiln"}, "oven", False),
        ({"kiln"}, "plain", False),
        ({GENERAL}, "plain", True),
        ({GENERAL}, "kiln", False),
        ({GENERAL, "kiln"}, "kiln", True),
        (set(), "plain", False),
    ],
)
def test_a_profile_with_authorities_of_its_own_takes_no_others(owners: set[str], profile: str, allowed: bool) -> None:
    known = authorities(a={"kiln"}, b={"oven"}, c={GENERAL})
    assert known.allow(Certificate(frozenset(), frozenset(owners)), profile) is allowed


def test_the_private_name_that_is_used_is_there() -> None:
    import _ssl  # noqa: PLC0415 - the test is about it

    if sys.version_info < (3, 13):
        assert hasattr(_ssl._SSLSocket, "get_verified_chain")
        assert client_certificates._DER == _ssl.ENCODING_DER
    else:
        assert hasattr(ssl.SSLSocket, "get_verified_chain")
