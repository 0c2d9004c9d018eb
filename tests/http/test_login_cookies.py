"""Cookies of logins, and the secret that signs them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from gateway.config import AuthSection
from gateway.http.login_cookies import LIFETIME, MAX_ENDED, Logins, Role, load_secret, token_of

if TYPE_CHECKING:
    from pathlib import Path

AUTH = AuthSection(admin_token="a" * 20, viewer_token="v" * 20)
NOW = 1_700_000_000
SECRET = bytes(range(32))


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> Logins:
    return Logins(SECRET, clock)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_a_cookie_is_read_as_what_it_was_made_for(logins: Logins, role: Role) -> None:
    first, second = (logins.read(logins.begin(role, AUTH), AUTH) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.role, first.expires) == (role, NOW + LIFETIME)
    assert first.id != second.id
    assert first.csrf != second.csrf


def test_any_other_character_makes_it_worthless(logins: Logins) -> None:
    cookie = logins.begin(Role.VIEWER, AUTH)
    for place in range(len(cookie) - 1):  # of the last character two bits mean nothing
        other = "B" if cookie[place] == "A" else "A"
        assert logins.read(cookie[:place] + other + cookie[place + 1 :], AUTH) is None, place


@pytest.mark.parametrize("cookie", ["", ".", "...", "ADMIN", "ADMIN.9999999999.x.", "NONE.1.x.y", "ADMIN.x.y.é\udcff"])
def test_an_invalid_cookie_gives_no_login(logins: Logins, cookie: str) -> None:
    assert logins.read(cookie, AUTH) is None


def test_a_viewer_cookie_cannot_be_turned_into_an_admin_cookie(logins: Logins) -> None:
    _, rest = logins.begin(Role.VIEWER, AUTH).split(".", 1)
    assert logins.read(f"ADMIN.{rest}", AUTH) is None


def test_another_gateways_cookie_counts_for_nothing(logins: Logins) -> None:
    other = Logins(bytes(32))
    assert logins.read(other.begin(Role.ADMIN, AUTH), AUTH) is None
    assert other.cookie_name != logins.cookie_name
    assert SECRET.hex()[:8] not in logins.cookie_name


def test_a_login_expires(logins: Logins, clock: Clock) -> None:
    cookie = logins.begin(Role.ADMIN, AUTH)
    clock.now = NOW + LIFETIME - 1
    assert logins.read(cookie, AUTH) is not None
    clock.now = NOW + LIFETIME
    assert logins.read(cookie, AUTH) is None


def test_a_login_begun_while_the_clock_was_ahead_is_refused(logins: Logins, clock: Clock) -> None:
    cookie = logins.begin(Role.ADMIN, AUTH)
    clock.now = NOW - 60
    assert logins.read(cookie, AUTH) is None


def test_a_new_token_ends_the_sessions_of_its_role(logins: Logins) -> None:
    cookies = {role: logins.begin(role, AUTH) for role in (Role.VIEWER, Role.ADMIN)}
    changed = AUTH.model_copy(update={"admin_token": AuthSection(admin_token="b" * 20).admin_token})
    assert logins.read(cookies[Role.ADMIN], changed) is None
    assert logins.read(cookies[Role.VIEWER], changed) is not None
    none = AuthSection()
    assert [logins.read(cookie, none) for cookie in cookies.values()] == [None, None]


def test_without_a_token_there_is_no_session_whatever_the_token_was(logins: Logins) -> None:
    cookie = logins.begin(Role.ADMIN, AuthSection(admin_token="None"))
    assert logins.read(cookie, AuthSection()) is None


def test_a_session_that_was_ended_stays_so(logins: Logins, clock: Clock) -> None:
    cookies = [logins.begin(Role.ADMIN, AUTH) for _ in range(2)]
    ended = logins.read(cookies[0], AUTH)
    assert ended is not None
    logins.end(ended)
    assert logins.read(cookies[0], AUTH) is None
    assert logins.read(cookies[1], AUTH) is not None
    clock.now += LIFETIME + 1
    for _ in range(2):
        login = logins.read(logins.begin(Role.VIEWER, AUTH), AUTH)
        assert login is not None
        logins.end(login)
    assert len(logins._ended) == 2  # what has expired needs no remembering


def test_ended_sessions_have_a_bound(logins: Logins) -> None:
    login = logins.read(logins.begin(Role.VIEWER, AUTH), AUTH)
    assert login is not None
    logins._ended = {str(number): login.expires for number in range(MAX_ENDED)}
    logins.end(login)
    assert len(logins._ended) == MAX_ENDED
    assert login.id in logins._ended


def test_each_role_has_its_token_and_no_role_has_none() -> None:
    assert [token_of(role, AUTH) for role in Role] == [None, "v" * 20, "a" * 20]


def test_the_secret_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    secret = load_secret(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path) == secret
    assert load_secret(tmp_path / "other.key") != secret
    assert {file.name for file in tmp_path.iterdir()} == {"session.key", "other.key"}


@pytest.mark.parametrize("fault", ["short", "readable", "left over"])
def test_an_unusable_secret_is_replaced(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "session.key"
    secret = load_secret(path)
    if fault == "short":
        path.write_bytes(secret[:31])
    elif fault == "readable":
        path.chmod(0o640)
    else:
        path.rename(tmp_path / "session.key.new")
    new = load_secret(path)
    assert new != secret
    assert len(new) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path) == new
