from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol.messages import Close
from gateway.protocol.session import State
from tests.support.sessions import Bench

ENDINGS: list[Any] = [
    ("credentials_refused", (), 4401),
    ("credentials_late", (), 4401),
    ("receive_other", (), 1003),
    ("not_utf8", (), 1007),
    ("too_big", (), 1009),
    ("keepalive_expired", (), 4408),
    ("replaced", (), 4409),
    ("revoked", (), 1008),
    ("restarting", (), 1012),
    ("busy", ("too many connections",), 1013),
    ("failed", (), 1011),
]


@pytest.mark.parametrize(("event", "arguments", "code"), ENDINGS)
@pytest.mark.parametrize("welcomed", [False, True])
def test_an_ending_closes_once_and_for_all(event: str, arguments: tuple[Any, ...], code: int, welcomed: bool) -> None:
    bench = Bench()
    if welcomed:
        bench.ready()
        bench.send({"seq": 1, "a": 1})
    assert bench.session.open
    [close] = getattr(bench.session, event)(*arguments)
    assert isinstance(close, Close)
    assert close.code == code
    assert 0 < len(close.reason.encode()) <= 123
    assert not bench.session.open
    for other, its_arguments, _ in ENDINGS:
        assert getattr(bench.session, other)(*its_arguments) == ()
    assert bench.send({"seq": 2, "a": 1}) == []
    assert bench.send({"type": "hello", "token": "T"}) == []
    assert bench.good() == []
    assert bench.commit() == []
    assert bench.deliver() == []
    assert bench.commit_fails() == []
    assert bench.session._state is State.CLOSED


def test_a_long_reason_is_cut_between_characters() -> None:
    [close] = Bench().session.busy("é" * 100)
    assert isinstance(close, Close)
    assert close.reason == "é" * 61
