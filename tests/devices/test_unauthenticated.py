from __future__ import annotations

from gateway.devices.unauthenticated import UnauthenticatedConnections


class Stranger:
    def __init__(self) -> None:
        self.out = 0

    def close_to_make_room(self) -> None:
        self.out += 1


def test_who_has_been_at_it_for_longest_gives_way() -> None:
    strangers = UnauthenticatedConnections(limit=2)
    first, second, third, fourth = (Stranger() for _ in range(4))
    strangers.add(first)
    strangers.add(second)
    assert len(strangers) == 2
    strangers.forget(first)
    strangers.add(third)
    strangers.add(fourth)
    assert [s.out for s in (first, second, third, fourth)] == [0, 1, 0, 0]
    assert len(strangers) == 2
    assert strangers.pushed_out == 1
    strangers.forget(second)
    assert len(strangers) == 2
