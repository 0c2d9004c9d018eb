from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

from gateway.process import GC_THRESHOLDS, SWITCH_INTERVAL, tuned_to_serve

if TYPE_CHECKING:
    import pytest

ALONE = """
import gc, sys
from gateway.process import tuned_to_serve
def facts(): return gc.get_threshold(), sys.getswitchinterval(), gc.get_freeze_count() > 0
before = facts()
try:
    with tuned_to_serve():
        print(facts())
        raise KeyError
except KeyError:
    print(facts() == before)
"""


def test_it_is_set_while_serving_and_undone_after_whatever_happens() -> None:
    """In a process of its own: what is frozen here would stay so for the other tests."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [str((GC_THRESHOLDS, SWITCH_INTERVAL, True)), "True"]


def test_rubbish_of_the_start_is_collected_and_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "unfreeze", lambda: done.append("unfreeze"))
    with tuned_to_serve():
        assert done == ["collect", "freeze"]
    assert done[-1] == "unfreeze"
