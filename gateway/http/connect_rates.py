"""How often each address may connect.

Rules that hold here:

* An address has a burst, as large as a fleet behind it needs after a power cut. The burst refills at a constant rate.
* With IPv6, a network of 64 bits counts as one address, since its hosts have one owner.
* The table has a bound. A client that fills it from many addresses is limited less; no client is limited because of
  another.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from gateway.http.client_address import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ADDRESSES = 16_384


class ConnectRates:
    """Connections by address: ``rate`` a second for each, ``burst`` at once."""

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By network: the connections left, and when they were counted; the network that connected last at the end."""
        self._refused = refused

    def __len__(self) -> int:
        return len(self._left)

    def allow(self, address: str) -> bool:
        """Whether ``address`` may connect once more. Counts the connection or the refusal."""
        network, now = network_of(address), self._clock()
        left, at = self._left.pop(network, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1
        self._left[network] = (left - 1 if allowed else left, now)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        if not allowed:
            self._refused()
        return allowed
