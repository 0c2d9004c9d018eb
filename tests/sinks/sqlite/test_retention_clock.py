from __future__ import annotations

from gateway.sinks.sqlite.retention_clock import DOUBTED_NS, FAR_NS, RetentionClock
from gateway.time_units import NS_PER_S as NS

TODAY = 1_790_000_000 * NS
YEAR = 365 * 86_400 * NS


class Machine:
    def __init__(self, wall: int) -> None:
        self.wall, self.monotonic = wall, 7 * NS
        self.clock = RetentionClock(lambda: self.wall, lambda: self.monotonic)

    def after(self, ns: int, *, jump: int = 0) -> int:
        self.wall += ns + jump
        self.monotonic += ns
        return self.clock()


def test_a_running_clock_is_followed() -> None:
    machine = Machine(TODAY)
    assert machine.after(NS) == TODAY + NS
    assert machine.after(YEAR) == TODAY + NS + YEAR
    assert machine.after(0, jump=FAR_NS) == machine.wall


def test_a_clock_set_far_forward_is_not_believed_for_a_day() -> None:
    machine = Machine(TODAY)
    assert machine.after(NS, jump=12 * YEAR) == TODAY + NS
    assert machine.after(DOUBTED_NS // 2) == TODAY + NS + DOUBTED_NS // 2
    assert machine.after(DOUBTED_NS) == machine.wall


def test_a_clock_that_is_set_right_again_was_never_believed() -> None:
    machine = Machine(TODAY)
    machine.after(NS, jump=12 * YEAR)
    assert machine.after(NS, jump=-12 * YEAR) == TODAY + 2 * NS
    assert machine.after(NS, jump=12 * YEAR) == TODAY + 3 * NS
    assert machine.after(DOUBTED_NS - NS) < TODAY + YEAR


def test_a_step_back_and_a_clock_that_was_never_set_are_followed_at_once() -> None:
    machine = Machine(TODAY)
    assert machine.after(NS, jump=-YEAR) == TODAY + NS - YEAR
    assert Machine(0).after(NS, jump=TODAY) == TODAY + NS
