from __future__ import annotations

from gateway.http.connect_rates import MAX_ADDRESSES, ConnectRates
from tests.support.clock import Clock


def connected(some: ConnectRates, address: str, times: int) -> int:
    return sum(some.allow(address) for _ in range(times))


def test_a_burst_and_then_the_rate_for_each_address() -> None:
    clock = Clock()
    refused: list[None] = []
    some = ConnectRates(2, 10, clock, refused=lambda: refused.append(None))
    assert connected(some, "192.0.2.1", 20) == 10
    assert len(refused) == 10
    assert connected(some, "192.0.2.2", 20) == 10
    clock.now += 3
    assert connected(some, "192.0.2.1", 20) == 6
    clock.now += 3600
    assert connected(some, "192.0.2.1", 20) == 10


def test_a_network_of_ipv6_is_one_address() -> None:
    some = ConnectRates(2, 10, Clock())
    assert connected(some, "2001:db8::1", 20) == 10
    assert connected(some, "2001:db8::ffff:1", 20) == 0
    assert connected(some, "2001:db8:0:1::1", 20) == 10


def test_the_table_is_bounded_and_forgets_the_address_that_was_quiet_longest() -> None:
    some = ConnectRates(0.001, 1, Clock())
    for number in range(MAX_ADDRESSES + 5):
        assert some.allow(f"address {number}")
    assert len(some) == MAX_ADDRESSES
    assert not some.allow(f"address {MAX_ADDRESSES}")
    assert some.allow("address 0")
