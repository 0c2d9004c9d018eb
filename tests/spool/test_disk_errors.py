from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.spool.disk_errors import Area, DiskErrors

if TYPE_CHECKING:
    import pytest


def test_an_error_stays_until_its_area_works_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    disk_errors = DiskErrors()
    assert disk_errors.text is None
    disk_errors.note(Area.APPEND, OSError(5, "Input/output error"))
    disk_errors.note(Area.CURSOR, TimeoutError())
    assert Area.APPEND in disk_errors
    assert disk_errors.text == (
        "readings cannot be kept: [Errno 5] Input/output error; the cursor cannot be stored, delivered readings will "
        "be delivered again after a restart: TimeoutError"
    )
    disk_errors.clear(Area.APPEND)
    disk_errors.clear(Area.APPEND)
    assert Area.APPEND not in disk_errors
    assert disk_errors.text is not None
    disk_errors.clear(Area.CURSOR)
    assert disk_errors.text is None
    assert caplog.text.count("works again") == 2


def test_the_same_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    disk_errors = DiskErrors()
    for _ in range(5):
        disk_errors.note(Area.APPEND, OSError("broken"))
    disk_errors.note(Area.APPEND, OSError("broken otherwise"))
    assert len(caplog.records) == 2
