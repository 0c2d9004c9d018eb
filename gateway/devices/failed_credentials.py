"""Slows down devices that repeat wrong credentials: they have to wait, longer and longer.

Rules that hold here:

* Right credentials in a handshake always pass, and end the wait. Tokens of the registry have too many random bits to be
  guessed at any rate; an imported token has as many as its maker gave it. What this slows down is a device that was
  revoked, or set up wrongly, and tries for ever.
* While it has to wait, a device that brings its credentials in a message is refused at the handshake: they could be
  wrong again.
* Failures are counted by address and device, so that one bad device behind an address does not affect the others there.
  An address as a whole has a much higher ceiling.
* A failure during a wait does not make the wait longer.
* The tables have bounds. A client that overflows them is slowed less; no other client is slowed for it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.http.client_address import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

FREE_FAILURES = 5
"""Failures before the first wait."""
MIN_WAIT = 1.0
MAX_WAIT = 300.0
"""Seconds; each wait is twice the one before."""
FORGOTTEN_AFTER = 2 * MAX_WAIT
"""Seconds after the end of a wait until the failures before it are forgotten."""
ADDRESS_BURST = 1000
ADDRESS_RATE = 5.0
"""Failures a second that an address may have, of all devices together, after `ADDRESS_BURST` at once."""
MAX_ENTRIES = 16_384
"""Pairs of address and device that are remembered, and as many addresses."""


@dataclass(slots=True)
class _Failing:
    count: int = 0
    """Failures that were not during a wait."""
    until: float = 0.0
    """The end of the wait, on the clock."""


class FailedCredentials:
    """How often each device failed from each address, and how long it has to wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pairs: OrderedDict[tuple[str, str], _Failing] = OrderedDict()
        """By network and device id; the pair that failed last is at the end."""
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By network: how many failures it may still have (below 0: it has to wait), and when that was computed."""

    def __len__(self) -> int:
        return len(self._pairs)

    def wrong(self, address: str, device: str) -> float:
        """Count wrong credentials. Returns the seconds to wait before the next attempt, 0 for the first few."""
        network, now = network_of(address), self._clock()
        return max(self._of_pair((network, device), now), self._of_address(network, now))

    def wait(self, address: str, device: str) -> float:
        """The seconds left of the device's own wait. Nothing was wrong this time, so the address does not count."""
        found = self._pairs.get((network_of(address), device)) if self._pairs else None
        return 0.0 if found is None else max(0.0, found.until - self._clock())

    def right(self, address: str, device: str) -> None:
        """The credentials were right: forget the failures of this device from this address."""
        if self._pairs:
            self._pairs.pop((network_of(address), device), None)

    def _of_pair(self, pair: tuple[str, str], now: float) -> float:
        found = self._pairs.pop(pair, None)
        if found is None or now > found.until + FORGOTTEN_AFTER:
            found = _Failing(until=now)
        self._pairs[pair] = found
        if len(self._pairs) > MAX_ENTRIES:
            self._pairs.popitem(last=False)
        if now >= found.until:
            found.count += 1
            doublings = found.count - FREE_FAILURES - 1
            found.until = now + (0.0 if doublings < 0 else min(MAX_WAIT, MIN_WAIT * 2.0 ** min(doublings, 30)))
        return found.until - now

    def _of_address(self, network: str, now: float) -> float:
        left, at = self._addresses.pop(network, (float(ADDRESS_BURST), now))
        left = max(-1.0, min(ADDRESS_BURST, left + (now - at) * ADDRESS_RATE) - 1)
        self._addresses[network] = left, now
        if len(self._addresses) > MAX_ENTRIES:
            self._addresses.popitem(last=False)
        return max(0.0, -left / ADDRESS_RATE)
