"""Slows down addresses that try tokens, without any effect on others.

Rules that hold here:

* Each address has `BURST` guesses, and one more every `EVERY` seconds. While it has none left, a right token is not
  checked either: otherwise the answer would show that the token is right.
* The same wrong token again is no new guess: a scraper with an old token must not shut out people at its address.
* The table has a bound. A client that fills it from many addresses is slowed less; no client is slowed because of
  another.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.http.client_address import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 10
EVERY = 10.0
"""Seconds until one more guess."""
MAX_ADDRESSES = 4096
_KNOWN_WRONG = 4


@dataclass(slots=True)
class _Guesser:
    left: float
    """Guesses left at the time ``at``."""
    at: float
    """Seconds, of the clock of `TokenGuesses`."""
    wrong: deque[int] = field(default_factory=lambda: deque(maxlen=_KNOWN_WRONG))
    """Hashes of the last wrong tokens."""


class TokenGuesses:
    """Counts wrong tokens by the address that they came from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Seconds until ``address`` may try a token; in the ordinary case 0."""
        guesser = self._guessers.get(network_of(address))
        return 0.0 if guesser is None else max(0.0, (1 - self._left(guesser)) * EVERY)

    def count_wrong(self, address: str, token: str) -> bool:
        """Count a wrong token; returns whether it was the last guess that the address had."""
        network, now = network_of(address), self._clock()
        guesser = self._guessers.setdefault(network, _Guesser(BURST, now))
        self._guessers.move_to_end(network)
        if hash(token) in guesser.wrong:
            return False
        guesser.left, guesser.at = self._left(guesser) - 1, now
        guesser.wrong.append(hash(token))
        if len(self._guessers) > MAX_ADDRESSES:
            self._guessers.popitem(last=False)
        return guesser.left < 1

    def _left(self, guesser: _Guesser) -> float:
        return min(BURST, guesser.left + (self._clock() - guesser.at) / EVERY)
