from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.protocol.messages import Close
from gateway.protocol.session import CloseReason, SessionState
from tests.support.sessions import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.protocol.messages import Effects
    from gateway.protocol.session import Session

ENDS: list[Callable[[Session], Effects]] = [
    lambda session: session.credentials_refused(),
    lambda session: session.receive_other(),
    lambda session: session.not_utf8(),
    lambda session: session.busy("too many connections"),
    *((lambda session, reason=reason: session.close(reason)) for reason in CloseReason),  # type: ignore[misc]
]
CODES = {
    "CREDENTIALS_LATE": 4401, "CLAIM_TAKEN": 4401, "NOT_APPROVED": 4401, "APPROVAL_EXPIRED": 1013,
    "APPROVAL_QUEUE_FULL": 1013, "PUSHED_OUT": 1013, "ONLY_TEXT": 1003, "ONLY_BINARY": 1003, "TOO_BIG": 1009,
    "KEEPALIVE_EXPIRED": 4408, "MESSAGE_LATE": 4408, "TOO_MANY_STRIKES": 1008, "RATE_IGNORED": 4429, "REPLACED": 4409,
    "REVOKED": 1008, "RESTARTING": 1012, "FAILED": 1011,
}  # fmt: skip


def test_every_reason_has_its_code() -> None:
    assert {reason.name: int(reason.code) for reason in CloseReason} == CODES


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("welcomed", [False, True])
def test_a_session_closes_once_and_for_all(end: Callable[[Session], Effects], *, welcomed: bool) -> None:
    bench = Bench()
    if welcomed:
        bench.ready()
        bench.send({"seq": 1, "a": 1})
    assert bench.session.open
    [close] = end(bench.session)
    assert isinstance(close, Close)
    assert 0 < len(close.reason.encode()) <= 123
    assert "{" not in close.reason
    assert not bench.session.open
    for other in ENDS:
        assert other(bench.session) == ()
    assert bench.send({"seq": 2, "a": 1}) == []
    assert bench.send({"type": "hello", "token": "T"}) == []
    assert bench.good() == []
    assert bench.commit() == []
    assert bench.deliver() == []
    assert bench.commit_fails() == []
    assert bench.session._state is SessionState.CLOSED


def test_a_long_reason_is_cut_between_characters() -> None:
    [close] = Bench().session.busy("é" * 100)
    assert isinstance(close, Close)
    assert close.reason == "é" * 61
