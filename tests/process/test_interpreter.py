from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

from gateway.process.interpreter import tuned_to_serve

if TYPE_CHECKING:
    import pytest

ALONE = """
import gc, sys
from gateway.process.interpreter import GC_THRESHOLDS, SWITCH_INTERVAL, tuned_to_serve
def facts(): return gc.get_threshold(), sys.getswitchinterval()
before, frozen = facts(), gc.get_freeze_count()
gc.set_threshold(*GC_THRESHOLDS)
wanted = gc.get_threshold(), SWITCH_INTERVAL
gc.set_threshold(*before[0])
try:
    with tuned_to_serve():
        print(facts() == wanted != before, gc.get_freeze_count() > frozen)
        raise KeyError
except KeyError:
    print(facts() == before, gc.get_freeze_count())
"""


def test_it_is_set_while_serving_and_undone_after_whatever_happens() -> None:
    """In a process of its own: what is frozen here would stay so for the other tests.

    What there is before depends on the version, and so do the thresholds: 3.14.0 to 3.14.4 have no third one.
    """
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["True True", "True 0"]


def test_rubbish_of_the_start_is_collected_and_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "unfreeze", lambda: done.append("unfreeze"))
    with tuned_to_serve():
        assert done == ["collect", "freeze"]
    assert done[-1] == "unfreeze"
