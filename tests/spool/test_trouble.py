from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.spool.trouble import Area, Trouble

if TYPE_CHECKING:
    import pytest


def test_trouble_lasts_until_the_same_thing_works_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trouble = Trouble()
    assert trouble.text is None
    trouble.note(Area.APPEND, OSError(5, "Input/output error"))
    trouble.note(Area.CURSOR, TimeoutError())
    assert Area.APPEND in trouble
    assert trouble.text == (
        "readings cannot be kept: [Errno 5] Input/output error; what was delivered cannot be marked, it will be "
        "delivered again after a restart: TimeoutError"
    )
    trouble.clear(Area.APPEND)
    trouble.clear(Area.APPEND)
    assert Area.APPEND not in trouble
    assert trouble.text is not None
    trouble.clear(Area.CURSOR)
    assert trouble.text is None
    assert caplog.text.count("works again") == 2


def test_the_same_trouble_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble()
    for _ in range(5):
        trouble.note(Area.APPEND, OSError("broken"))
    trouble.note(Area.APPEND, OSError("broken otherwise"))
    assert len(caplog.records) == 2
