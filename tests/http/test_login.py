"""Cookies that say who somebody is, and the secret they are signed with."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from gateway.config import AuthSection
from gateway.http.login import LIFETIME, MOST_ENDED, Role, Sessions, load_secret, token_of

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
def sessions(clock: Clock) -> Sessions:
    return Sessions(SECRET, clock)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_a_cookie_is_read_as_what_it_was_made_for(sessions: Sessions, role: Role) -> None:
    first, second = (sessions.read(sessions.begin(role, AUTH), AUTH) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.role, first.expires) == (role, NOW + LIFETIME)
    assert first.id != second.id
    assert first.csrf != second.csrf


def test_any_other_character_makes_it_worthless(sessions: Sessions) -> None:
    cookie = sessions.begin(Role.VIEWER, AUTH)
    for place in range(len(cookie) - 1):  # of the last character two bits mean nothing
        other = "B" if cookie[place] == "A" else "A"
        assert sessions.read(cookie[:place] + other + cookie[place + 1 :], AUTH) is None, place


@pytest.mark.parametrize("cookie", ["", ".", "...", "ADMIN", "ADMIN.9999999999.x.", "NONE.1.x.y", "ADMIN.x.y.é\udcff"])
def test_what_is_no_cookie_is_none(sessions: Sessions, cookie: str) -> None:
    assert sessions.read(cookie, AUTH) is None


def test_a_viewers_cookie_is_no_admins(sessions: Sessions) -> None:
    _, rest = sessions.begin(Role.VIEWER, AUTH).split(".", 1)
    assert sessions.read(f"ADMIN.{rest}", AUTH) is None


def test_another_gateways_cookie_counts_for_nothing(sessions: Sessions) -> None:
    other = Sessions(bytes(32))
    assert sessions.read(other.begin(Role.ADMIN, AUTH), AUTH) is None
    assert other.cookie_name != sessions.cookie_name
    assert SECRET.hex()[:8] not in sessions.cookie_name


def test_it_ends_with_its_time(sessions: Sessions, clock: Clock) -> None:
    cookie = sessions.begin(Role.ADMIN, AUTH)
    clock.now = NOW + LIFETIME - 1
    assert sessions.read(cookie, AUTH) is not None
    clock.now = NOW + LIFETIME
    assert sessions.read(cookie, AUTH) is None


def test_one_of_a_clock_that_was_ahead_does_not_live_longer(sessions: Sessions, clock: Clock) -> None:
    cookie = sessions.begin(Role.ADMIN, AUTH)
    clock.now = NOW - 60
    assert sessions.read(cookie, AUTH) is None


def test_a_new_token_ends_the_sessions_of_its_role(sessions: Sessions) -> None:
    cookies = {role: sessions.begin(role, AUTH) for role in (Role.VIEWER, Role.ADMIN)}
    changed = AUTH.model_copy(update={"admin_token": AuthSection(admin_token="b" * 20).admin_token})
    assert sessions.read(cookies[Role.ADMIN], changed) is None
    assert sessions.read(cookies[Role.VIEWER], changed) is not None
    none = AuthSection()
    assert [sessions.read(cookie, none) for cookie in cookies.values()] == [None, None]


def test_without_a_token_there_is_no_session_whatever_the_token_was(sessions: Sessions) -> None:
    cookie = sessions.begin(Role.ADMIN, AuthSection(admin_token="None"))
    assert sessions.read(cookie, AuthSection()) is None


def test_a_session_that_was_ended_stays_so(sessions: Sessions, clock: Clock) -> None:
    cookies = [sessions.begin(Role.ADMIN, AUTH) for _ in range(2)]
    ended = sessions.read(cookies[0], AUTH)
    assert ended is not None
    sessions.end(ended)
    assert sessions.read(cookies[0], AUTH) is None
    assert sessions.read(cookies[1], AUTH) is not None
    clock.now += LIFETIME + 1
    for _ in range(2):
        session = sessions.read(sessions.begin(Role.VIEWER, AUTH), AUTH)
        assert session is not None
        sessions.end(session)
    assert len(sessions._ended) == 2  # what has expired needs no remembering


def test_ended_sessions_have_a_bound(sessions: Sessions) -> None:
    session = sessions.read(sessions.begin(Role.VIEWER, AUTH), AUTH)
    assert session is not None
    sessions._ended = {str(number): session.expires for number in range(MOST_ENDED)}
    sessions.end(session)
    assert len(sessions._ended) == MOST_ENDED
    assert session.id in sessions._ended


def test_nobody_has_no_token() -> None:
    assert [token_of(role, AUTH) for role in Role] == [None, "v" * 20, "a" * 20]


def test_the_secret_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    secret = load_secret(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path) == secret
    assert load_secret(tmp_path / "other.key") != secret
    assert {file.name for file in tmp_path.iterdir()} == {"session.key", "other.key"}


@pytest.mark.parametrize("fault", ["short", "readable", "left over"])
def test_a_secret_that_is_none_is_made_anew(tmp_path: Path, fault: str) -> None:
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
