"""The requests of devices that want to be let in, with bounds: what `gateway.devices.enrolment` decides about.

Rules that hold here:

* Requests are bounded in all, by address, by device id and by both. One too many pushes out the oldest undecided one
  within the same bound whose device has left.
* Where none has left, it pushes out the newest one of the address that has most of them within the bound, if that keeps
  no fewer than the newcomer's then has: whoever fills a bound from one address keeps nobody else out.
* An address is a network of 64 bits with IPv6: its hosts are one owner's.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gateway.http.token_guesses import network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from gateway.state.enrolments import Key, Request

MOST = 1000
MOST_OF_ADDRESS = 50
MOST_OF_DEVICE = 8
MOST_OF_BOTH = 2
"""Of a device id from one address."""


class EnrolmentQueue:
    """At most ``most`` requests by device id and claim."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._requests: dict[str, dict[str, Request]] = {}
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of_address.total()

    def __iter__(self) -> Iterator[Request]:
        """All of them, as they are now."""
        return iter([request for of_device in self._requests.values() for request in of_device.values()])

    def of(self, device_id: str) -> Mapping[str, Request]:
        """The requests of a device, by claim."""
        return self._requests.get(device_id, {})

    def has(self, request: Request) -> bool:
        """Whether it is still there."""
        return self.of(request.id).get(request.claim) is request

    def add(self, request: Request) -> None:
        """One more, for which there is room."""
        self._requests.setdefault(request.id, {})[request.claim] = request
        self._of_address[network_of(request.address)] += 1

    def remove(self, request: Request) -> None:
        """It waits no more."""
        of_device = self._requests[request.id]
        del of_device[request.claim]
        if not of_device:
            del self._requests[request.id]
        self._less(request.address)

    def move(self, request: Request, address: str) -> None:
        """Its device is at another address now."""
        self._less(request.address)
        request.address = address
        self._of_address[network_of(address)] += 1

    def _less(self, address: str) -> None:
        network = network_of(address)
        self._of_address[network] -= 1
        if not self._of_address[network]:
            del self._of_address[network]

    def make_room(self, device_id: str, address: str, held: Collection[Key]) -> list[Request] | None:
        """Which requests have to go for one more, at most four; None: no room. Those ``held`` are connected."""
        network, of_device = network_of(address), self.of(device_id).values()
        of_both = sum(network_of(request.address) == network for request in of_device)
        bounds: tuple[tuple[int, int, Callable[[Request], bool]], ...] = (
            (of_both, MOST_OF_BOTH, lambda request: request.id == device_id and network_of(request.address) == network),
            (len(of_device), MOST_OF_DEVICE, lambda request: request.id == device_id),
            (self._of_address[network], MOST_OF_ADDRESS, lambda request: network_of(request.address) == network),
            (len(self), self._most, lambda _request: True),
        )
        going: list[Request] = []
        for found, most, within in bounds:
            if found < most or any(within(request) for request in going):
                continue
            gives_way = _who_gives_way([r for r in self if r.decision is None and within(r)], network, held)
            if gives_way is None:
                return None
            going.append(gives_way)
        return going


def _who_gives_way(undecided: Collection[Request], network: str, held: Collection[Key]) -> Request | None:
    """Which of the requests within a bound goes for one of ``network``."""
    left = [request for request in undecided if request.key not in held]
    if left:
        return min(left, key=lambda request: request.since_ns)
    shares = Counter(network_of(request.address) for request in undecided)
    largest = max(shares, key=shares.__getitem__, default=network)
    if shares[largest] < shares[network] + 2:
        return None
    return max((r for r in undecided if network_of(r.address) == largest), key=lambda request: request.since_ns)
