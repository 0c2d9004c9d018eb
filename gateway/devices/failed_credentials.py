"""Credentials of devices that were wrong: who repeats them is told to wait, longer and longer.

Rules that hold here:

* Right credentials in a handshake always pass, and end the wait. The registry's tokens have too many bits to be guessed
  at any rate, an imported one has as many as who made it gave it; what is held back is a device that was revoked or set
  up wrongly and tries for ever.
* Who has to wait, and brings credentials in a message only, is not let in to bring them: they could be wrong again.
* Failures are counted by address and device, so that one bad device behind an address does not affect the others there.
  An address as a whole has a much higher ceiling.
* What fails during a wait makes it no longer.
* Tables have bounds. Whoever fills them is held back less; nobody is held back for another.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.http.token_guesses import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = 5
"""FailedCredentials before the first wait."""
FIRST = 1.0
LONGEST = 300.0
"""Seconds; each wait is twice the one before."""
FORGOTTEN = 2 * LONGEST
"""Seconds after a wait until it begins again at the first."""
ADDRESS_BURST = 1000
ADDRESS_RATE = 5.0
"""FailedCredentials a second of an address, whichever devices they are of, after as many at once."""
MOST = 16_384
"""Pairs of address and device, and addresses."""


@dataclass(slots=True)
class _Failing:
    count: int = 0
    until: float = 0.0


class FailedCredentials:
    """Who failed how often, and who has to wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pairs: OrderedDict[tuple[str, str], _Failing] = OrderedDict()
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def wrong(self, address: str, device: str) -> float:
        """Count wrong credentials; how many seconds to wait before the next, 0 for the first few."""
        network, now = network_of(address), self._clock()
        return max(self._of_pair((network, device), now), self._of_address(network, now))

    def wait(self, address: str, device: str) -> float:
        """How many seconds are left of a wait; of the device's own only, as nothing was wrong this time."""
        found = self._pairs.get((network_of(address), device)) if self._pairs else None
        return 0.0 if found is None else max(0.0, found.until - self._clock())

    def right(self, address: str, device: str) -> None:
        """The credentials were right: what failed before was a mistake."""
        if self._pairs:
            self._pairs.pop((network_of(address), device), None)

    def _of_pair(self, pair: tuple[str, str], now: float) -> float:
        found = self._pairs.pop(pair, None)
        if found is None or now > found.until + FORGOTTEN:
            found = _Failing(until=now)
        self._pairs[pair] = found
        if len(self._pairs) > MOST:
            self._pairs.popitem(last=False)
        if now >= found.until:
            found.count += 1
            doublings = found.count - FREE - 1
            found.until = now + (0.0 if doublings < 0 else min(LONGEST, FIRST * 2.0 ** min(doublings, 30)))
        return found.until - now

    def _of_address(self, network: str, now: float) -> float:
        left, at = self._addresses.pop(network, (float(ADDRESS_BURST), now))
        left = max(-1.0, min(ADDRESS_BURST, left + (now - at) * ADDRESS_RATE) - 1)
        self._addresses[network] = left, now
        if len(self._addresses) > MOST:
            self._addresses.popitem(last=False)
        return max(0.0, -left / ADDRESS_RATE)
