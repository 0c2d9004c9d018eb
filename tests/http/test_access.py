"""The role of a request, by its credentials and the place that it comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from gateway.config import AuthSection, Config, ServerSection
from gateway.http.access import (
    Access,
    TooManyGuesses,
    is_cross_origin,
    lacks_csrf_token,
    origin_allowed,
    token_among,
    without_token,
)
from gateway.http.login_cookies import Role
from gateway.http.token_guesses import BURST

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-0123456789"
HERE, ALL = "127.0.0.1:8080", "0.0.0.0:8080"


def config(listen: str = HERE, **tokens: str) -> Config:
    return Config(server=ServerSection(listen=listen), auth=AuthSection(**tokens))


def asks(
    host: str = "localhost:8080", *, remote: str = "127.0.0.1", protocol: str = "http", **headers: str
) -> HTTPServerRequest:
    sent = HTTPHeaders({"Host": host, **headers})
    connection: Any = SimpleNamespace(context=SimpleNamespace(remote_ip=remote, protocol=protocol))
    return HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=sent, connection=connection)


def bearer(token: str, **more: Any) -> HTTPServerRequest:
    return asks(Authorization=f"Bearer {token}", **more)


@pytest.fixture
def access() -> Access:
    return Access(bytes(32))


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"])
def test_without_a_viewer_token_requests_from_this_machine_may_read(access: Access, host: str) -> None:
    assert access.judge(asks(host), config()).role is Role.VIEWER


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (asks("evil.example:8080"), config()),  # a name that was made to lead here
        (asks("127.0.0.1.evil.example"), config()),
        (asks(remote="192.0.2.1"), config()),  # through a proxy on this machine
        (asks(), config(ALL)),
        (asks(), config(viewer_token=VIEWER)),
    ],
)
def test_other_requests_need_a_token(access: Access, request_: HTTPServerRequest, settings: Config) -> None:
    assert access.judge(request_, settings).role is Role.NONE


def test_a_bearer_token_gives_its_configured_role(access: Access) -> None:
    both = config(ALL, viewer_token=VIEWER, admin_token=ADMIN)
    assert [access.judge(bearer(token), both).role for token in (VIEWER, ADMIN, "x")] == [
        Role.VIEWER,
        Role.ADMIN,
        Role.NONE,
    ]
    assert access.judge(bearer("x"), config(admin_token=ADMIN)).role is Role.VIEWER
    assert access.judge(bearer("None"), config(ALL)).role is Role.NONE
    assert access.judge(asks(Authorization=f"Basic {ADMIN}"), both).role is Role.NONE


def test_a_cookie_counts_where_there_is_no_bearer_token(access: Access) -> None:
    both = config(ALL, viewer_token=VIEWER, admin_token=ADMIN)
    cookie = access.logins.begin(Role.ADMIN, both.auth)
    grant = access.judge(asks(Cookie=f"{access.logins.cookie_name}={cookie}"), both)
    assert grant.role is Role.ADMIN
    assert grant.login is not None
    named = f"{access.logins.cookie_name}={cookie}"
    assert access.judge(bearer(VIEWER, Cookie=named), both).role is Role.VIEWER
    assert access.judge(bearer("wrong", Cookie=named), both).role is Role.NONE
    assert access.judge(asks(Cookie=named, protocol="https"), both).role is Role.NONE
    assert access.judge(asks(Cookie=f"__Host-{named}", protocol="https"), both).role is Role.ADMIN


def test_a_grant_lasts_until_its_token_or_login_ends_or_a_token_is_needed(access: Access) -> None:
    both = config(viewer_token=VIEWER, admin_token=ADMIN)
    cookie = f"{access.logins.cookie_name}={access.logins.begin(Role.ADMIN, both.auth)}"
    by_token, by_cookie = access.judge(bearer(VIEWER), both), access.judge(asks(Cookie=cookie), both)
    free = access.judge(asks(), config())
    for settings, lasting in (
        (both, [True, True, False]),
        (config(viewer_token=ADMIN, admin_token=VIEWER), [False, False, False]),
        (config(viewer_token=VIEWER), [True, False, False]),
        (config(), [False, False, True]),
    ):
        assert [access.lasts(grant, settings.auth) for grant in (by_token, by_cookie, free)] == lasting
    assert by_cookie.login is not None
    access.logins.end(by_cookie.login)
    assert not access.lasts(by_cookie, both.auth)
    assert ADMIN not in repr(by_cookie)


def test_guessing_by_bearer_token_is_slowed_for_that_address_only(access: Access) -> None:
    settings = config(ALL, admin_token=ADMIN)
    for number in range(BURST):
        assert access.judge(bearer(f"guess {number}"), settings).role is Role.NONE
    with pytest.raises(TooManyGuesses, match=r"wait \d+ s"):
        access.judge(bearer(ADMIN), settings)
    assert access.judge(bearer(ADMIN, remote="192.0.2.1"), settings).role is Role.ADMIN
    cookie = f"{access.logins.cookie_name}={access.logins.begin(Role.ADMIN, settings.auth)}"
    assert access.judge(asks(Cookie=cookie), settings).role is Role.ADMIN


@pytest.mark.parametrize(
    ("origin", "protocol", "elsewhere"),
    [
        (None, "http", False),
        ("http://gw.example:8080", "http", False),
        ("http://GW.example:8080", "http", False),
        ("https://gw.example:8080", "http", False),  # TLS ended before the gateway
        ("https://gw.example:8080", "https", False),
        ("http://gw.example:8080", "https", True),
        ("http://gw.example", "http", True),
        ("http://gw.example:8081", "http", True),
        ("http://evil.example:8080", "http", True),
        ("http://gw.example:8080.evil.example", "http", True),
        ("null", "http", True),
        ("", "http", True),
    ],
)
def test_a_page_of_another_origin_is_recognized(origin: str | None, protocol: str, *, elsewhere: bool) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert is_cross_origin(asks("gw.example:8080", protocol=protocol, **headers)) is elsewhere


def test_the_csrf_token_is_the_sessions_own(access: Access) -> None:
    auth = config(admin_token=ADMIN).auth
    one, other = (access.logins.read(access.logins.begin(Role.ADMIN, auth), auth) for _ in range(2))
    assert one is not None
    assert other is not None
    assert not lacks_csrf_token(asks(**{"X-CSRF-Token": one.csrf}), one)
    for wrong in (other.csrf, "", "x", one.csrf[:-1]):
        assert lacks_csrf_token(asks(**{"X-CSRF-Token": wrong}), one)
    assert lacks_csrf_token(asks(), one)


def says_page(origin: str | None, host: str = "localhost:8080", **more: Any) -> HTTPServerRequest:
    return asks(host, **more, **({} if origin is None else {"Origin": origin}))


def opened(*origins: str, mode: str = "open") -> Config:
    return Config(server=ServerSection(listen=HERE, allowed_origins=origins), auth=AuthSection(mode=mode))


@pytest.mark.parametrize("mode", ["open", "token"])
def test_only_allowed_origins_may_speak_as_a_device(mode: str) -> None:
    nobody = opened(mode=mode)
    assert origin_allowed(says_page(None), nobody)
    assert origin_allowed(says_page("http://localhost:8080"), nobody)
    for origin in ("http://evil.example", "http://localhost:9090", "null", ""):
        assert not origin_allowed(says_page(origin), nobody)
        assert origin_allowed(says_page(origin), opened("*", mode=mode))
    assert origin_allowed(says_page("https://dash.example"), opened("https://dash.example", mode=mode))


def test_without_tokens_the_own_page_has_to_be_under_a_name_of_this_machine() -> None:
    rebound = says_page("http://evil.example:8080", "evil.example:8080")
    assert not origin_allowed(rebound, opened())
    assert origin_allowed(rebound, opened(mode="token"))
    proxied = says_page("https://gw.example", "gw.example", **{"X-Forwarded-For": "192.0.2.1"})
    assert not origin_allowed(proxied, opened())


def test_a_token_among_the_subprotocols_is_none_of_them() -> None:
    offered = ["telemetry.v1.json", "bearer.t0ken", "bearer.other", "x"]
    assert without_token(offered) == ["telemetry.v1.json", "x"]
    assert token_among(offered) == "t0ken"
    assert (without_token([]), token_among([])) == ([], None)
