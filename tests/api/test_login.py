"""Logging in at a real gateway, and every way not to be let in."""

from __future__ import annotations

import contextlib
import platform
import re
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

from gateway import __version__
from gateway.config import AuthSection
from gateway.http.login_cookies import LIFETIME, Logins, Role
from gateway.http.token_guesses import BURST
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"
GUARDED = {"auth": {"mode": "token", "viewer_token": VIEWER, "admin_token": ADMIN}}
NOBODY = {"role": "none", "csrf": None, "login": True, "version": None, "name": None}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("guarded"), GUARDED) as running:
        yield running


@pytest.fixture
def visitor(gateway: RunningGateway) -> Visitor:
    return Visitor(gateway.url)


@pytest.fixture
def admin(visitor: Visitor) -> Visitor:
    assert visitor.login(ADMIN).status == 200
    return visitor


def test_without_a_login_one_learns_only_that_there_is_a_login(visitor: Visitor) -> None:
    answer = visitor.send("GET", "/v1/session")
    assert (answer.status, answer.body) == (200, NOBODY)
    assert answer.headers["Cache-Control"] == "no-store"
    assert visitor.send("GET", "/v1/devices").code == "unauthorized"


@pytest.mark.parametrize(("token", "role", "higher"), [(VIEWER, "viewer", True), (ADMIN, "admin", False)])
def test_a_token_opens_a_session(visitor: Visitor, token: str, role: str, *, higher: bool) -> None:
    answer = visitor.login(token)
    csrf = answer.body["csrf"]
    assert answer.body == {
        "role": role, "csrf": csrf, "login": higher, "version": __version__, "name": platform.node()
    }  # fmt: skip
    assert len(csrf) > 40
    assert visitor.send("GET", "/v1/session").body == answer.body
    assert visitor.send("GET", "/v1/devices").status == 200


def test_no_script_and_no_other_site_gets_the_cookie(visitor: Visitor) -> None:
    cookie = visitor.login(ADMIN).headers["Set-Cookie"]
    over_tls = visitor.url.startswith("https")
    assert re.match(r"__Host-gateway-[0-9a-f]{8}=ADMIN\." if over_tls else r"gateway-[0-9a-f]{8}=ADMIN\.", cookie)
    attributes = set(cookie.split("; ")[1:])
    secure = {"Secure"} if over_tls else set()
    assert attributes == {"HttpOnly", f"Max-Age={LIFETIME}", "Path=/", "SameSite=Strict"} | secure
    assert ADMIN not in cookie


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"token": "wrong-token"}, 401, "wrong_token"),
        ({"token": VIEWER[:-1]}, 401, "wrong_token"),
        ({"token": ""}, 400, "bad_request"),
        ({}, 400, "bad_request"),
        ({"token": None}, 400, "bad_request"),
        ({"token": VIEWER, "role": "admin"}, 400, "bad_request"),
        ([VIEWER], 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"", 400, "bad_request"),
    ],
)
def test_anything_else_does_not(gateway: RunningGateway, body: object, status: int, code: str) -> None:
    visitor = Visitor(gateway.url, "127.0.0.3")
    answer = visitor.send("POST", "/v1/session", body)
    assert (answer.status, answer.code) == (status, code)
    assert visitor.cookies == {}
    assert str(body)[:8] not in str(answer.body) or not body


def test_a_page_of_another_origin_cannot_log_anyone_in_or_out(admin: Visitor) -> None:
    for origin in ("http://evil.example", "null"):
        for method in ("POST", "DELETE"):
            answer = admin.change(method, "/v1/session", {"token": VIEWER}, Origin=origin)
            assert (answer.status, answer.code) == (403, "bad_origin")
            assert "Set-Cookie" not in answer.headers
    assert admin.send("GET", "/v1/session").body["role"] == "admin"


def test_logging_out_ends_copies_of_the_cookie_too(admin: Visitor) -> None:
    copy = Visitor(admin.url, cookies=dict(admin.cookies))
    assert admin.send("DELETE", "/v1/session").code == "bad_csrf_token"
    answer = admin.change("DELETE", "/v1/session")
    assert (answer.status, answer.body) == (200, NOBODY)
    assert admin.cookies == {}
    assert copy.send("GET", "/v1/session").body == NOBODY
    assert admin.change("DELETE", "/v1/session").body == NOBODY


def test_what_one_watches_ends_with_the_login(gateway: RunningGateway, admin: Visitor) -> None:
    other = Visitor(gateway.url)
    other.login(ADMIN)
    with contextlib.closing(admin.watch()) as ends, contextlib.closing(other.watch()) as goes_on:
        assert ends.readline().startswith(b"retry:")
        assert goes_on.readline().startswith(b"retry:")
        admin.change("DELETE", "/v1/session")
        assert other.send("GET", "/v1/status").body["viewers"] == 1, "cut before logging out is answered"
        wait_for(lambda: not ends.readline(), "the feed to end")
        wait_for(lambda: b'"viewers":1' in goes_on.readline(), "the other to be told so")


def test_a_forged_cookie_is_none(admin: Visitor) -> None:
    ((name, cookie),) = admin.cookies.items()
    role, expires, session, signature = cookie.split(".")
    for forged in (
        f"{role}.{int(expires) + 1}.{session}.{signature}",
        f"{role}.{expires}.{session}x.{signature}",
        f"{role}.{expires}.{session}.{signature[::-1]}",
        f"{role}.{expires}.{session}.",
        "ADMIN",
    ):
        assert Visitor(admin.url, cookies={name: forged}).send("GET", "/v1/session").body == NOBODY
    viewer = Visitor(admin.url)
    viewer.login(VIEWER)
    promoted = viewer.cookies[name].replace("VIEWER", "ADMIN")
    assert Visitor(admin.url, cookies={name: promoted}).send("GET", "/v1/session").body == NOBODY


@pytest.mark.parametrize(("hours_ago", "role"), [(0, "admin"), (11, "admin"), (13, "none"), (-1, "none")])
def test_a_login_lasts_half_a_day(gateway: RunningGateway, hours_ago: int, role: str) -> None:
    secret = gateway.directory / "state/session.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    logins = Logins(secret.read_bytes(), lambda: time.time() - 3600 * hours_ago)
    cookie = logins.begin(Role.ADMIN, AuthSection(admin_token=ADMIN))
    prefix = "__Host-" if gateway.url.startswith("https") else ""
    visitor = Visitor(gateway.url, cookies={prefix + logins.cookie_name: cookie})
    assert visitor.send("GET", "/v1/session").body["role"] == role


CHANGES = [
    ("POST", "/v1/devices"),
    ("DELETE", "/v1/devices/x"),
    ("POST", "/v1/devices/x/token"),
    ("DELETE", "/v1/dead-letters"),
    ("POST", "/v1/dead-letters/replay"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_change_needs_an_admin_on_the_gateways_own_page(
    gateway: RunningGateway, admin: Visitor, method: str, path: str
) -> None:
    viewer = Visitor(gateway.url)
    viewer.login(VIEWER)
    other = Visitor(gateway.url)
    other.login(ADMIN)
    refused = {
        "no cookie": Visitor(gateway.url).change(method, path, b"!"),
        "viewer by cookie": viewer.change(method, path, b"!"),
        "viewer by bearer": Visitor(gateway.url).send(method, path, b"!", Authorization=f"Bearer {VIEWER}"),
        "no csrf token": admin.send(method, path, b"!"),
        "csrf token of another session": admin.change(method, path, b"!", X_CSRF_Token=str(other.csrf)),
        "another origin": admin.change(method, path, b"!", Origin="http://evil.example"),
    }
    assert {why: (answer.status, answer.code) for why, answer in refused.items()} == {
        "no cookie": (401, "unauthorized"),
        "viewer by cookie": (403, "forbidden"),
        "viewer by bearer": (403, "forbidden"),
        "no csrf token": (403, "bad_csrf_token"),
        "csrf token of another session": (403, "bad_csrf_token"),
        "another origin": (403, "bad_origin"),
    }
    let_in = [
        admin.change(method, path, b"!"),
        Visitor(gateway.url).send(method, path, b"!", Authorization=f"Bearer {ADMIN}"),
    ]
    assert {answer.status for answer in let_in} <= {400, 404}


def test_only_the_address_that_guesses_is_slowed_down(gateway: RunningGateway, admin: Visitor) -> None:
    guesser = Visitor(gateway.url, "127.0.0.2")
    for number in range(BURST):
        answer = guesser.login(f"guess-{number}") if number % 2 else guesser.send(
            "GET", "/v1/devices", Authorization=f"Bearer guess-{number}"
        )  # fmt: skip
        assert answer.status == 401
    for answer in (guesser.login(ADMIN), guesser.send("GET", "/v1/devices", Authorization=f"Bearer {ADMIN}")):
        assert (answer.status, answer.code) == (429, "too_many_guesses")
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert gateway.log.count("many wrong tokens for HTTP came from 127.0.0.2") == 1
    assert "Traceback" not in gateway.log
    assert guesser.send("GET", "/v1/session").body == NOBODY
    guesser.cookies = dict(admin.cookies)
    assert guesser.send("GET", "/v1/devices").status == 200
    assert Visitor(gateway.url).login(ADMIN).status == 200


def test_sessions_outlive_a_restart_but_not_a_change_of_their_token(tmp_path: Path) -> None:
    with running_gateway(tmp_path, GUARDED) as first:
        viewer, admin = Visitor(first.url), Visitor(first.url)
        viewer.login(VIEWER)
        admin.login(ADMIN)
        first.stop()
    with running_gateway(tmp_path, GUARDED) as second:
        viewer.url = admin.url = second.url
        with contextlib.closing(admin.watch()) as watched:
            second.config.write_text(second.config.read_text().replace(ADMIN, ADMIN[::-1]))
            second.process.send_signal(signal.SIGHUP)
            wait_for(lambda: not watched.readline(), "the feed to end")
        assert admin.send("GET", "/v1/session").body == NOBODY
        assert admin.change("POST", "/v1/devices", {"id": "x"}).code == "unauthorized"
        assert viewer.send("GET", "/v1/session").body["role"] == "viewer"


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("unguarded"), {}) as running:
        yield running


def test_without_a_viewers_token_everyone_here_may_look_and_an_admin_may_log_in(unguarded: RunningGateway) -> None:
    visitor = Visitor(unguarded.url)
    session = visitor.send("GET", "/v1/session").body
    assert (session["role"], session["csrf"], session["login"]) == ("viewer", None, True)
    assert visitor.send("POST", "/v1/devices", {"id": "x"}).code == "forbidden"
    assert visitor.login(ADMIN).body["role"] == "admin"
    assert visitor.change("DELETE", "/v1/session").body == session


def test_a_page_whose_name_was_made_to_lead_here_may_not_look(unguarded: RunningGateway) -> None:
    for path in ("/v1/devices", "/metrics", "/readyz"):
        answer = Visitor(unguarded.url).send("GET", path, Host="evil.example")
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert Visitor(unguarded.url).send("GET", path, Host="localhost").status == 200
