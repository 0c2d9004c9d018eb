"""Slows down whoever tries tokens, without a word to anyone else.

Rules that hold here:

* Each address has a few guesses at once and then one more every so often. While it has none left, a right token is not
  looked at either: otherwise the answer would tell.
* The same wrong token again is no new guess: a scraper with an old token must not shut out the people beside it.
* The table has a bound. Whoever fills it from many addresses is slowed less; nobody is slowed for another.
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
    at: float
    wrong: deque[int] = field(default_factory=lambda: deque(maxlen=_KNOWN_WRONG))


class TokenGuesses:
    """Wrong tokens, by the address they came from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Seconds until ``address`` may try a token; 0 at most times."""
        guesser = self._guessers.get(network_of(address))
        return 0.0 if guesser is None else max(0.0, (1 - self._left(guesser)) * EVERY)

    def count_wrong(self, address: str, token: str) -> bool:
        """Count a wrong token; whether it was the last guess that the address had."""
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
