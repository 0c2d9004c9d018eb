"""The requests of devices that wait for approval, within bounds; `gateway.devices.enrolment` decides about them.

Rules that hold here:

* Requests are bounded in all, by address, by device id, and by both together. A request above a bound pushes out the
  oldest undecided one within that bound whose device has disconnected.
* If none has disconnected, it pushes out the newest request of the address that has the most within the bound, provided
  that this address keeps at least as many as the address of the new request then has. So a client that fills a bound
  from one address excludes no other address.
* An IPv6 address counts as its network of 64 bits: one owner has all addresses in it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gateway.http.client_address import network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from gateway.state.enrolments import EnrolmentKey, EnrolmentRequest

MAX_REQUESTS = 1000
MAX_OF_ADDRESS = 50
MAX_OF_DEVICE = 8
MAX_OF_BOTH = 2
"""Requests for one device id from one address."""


class EnrolmentQueue:
    """At most ``limit`` requests."""

    def __init__(self, limit: int = MAX_REQUESTS) -> None:
        self._limit = limit
        self._requests: dict[str, dict[str, EnrolmentRequest]] = {}
        """By device id, then by claim."""
        self._of_address: Counter[str] = Counter()
        """How many requests came from each network."""

    def __len__(self) -> int:
        return self._of_address.total()

    def __iter__(self) -> Iterator[EnrolmentRequest]:
        """All requests, copied: the queue may change during the loop."""
        return iter([request for of_device in self._requests.values() for request in of_device.values()])

    def of(self, device_id: str) -> Mapping[str, EnrolmentRequest]:
        """The requests of a device, by claim."""
        return self._requests.get(device_id, {})

    def has(self, request: EnrolmentRequest) -> bool:
        """Whether ``request`` is still in the queue."""
        return self.of(request.id).get(request.claim) is request

    def add(self, request: EnrolmentRequest) -> None:
        """Put in a request, for which `make_room` has made room."""
        self._requests.setdefault(request.id, {})[request.claim] = request
        self._of_address[network_of(request.address)] += 1

    def remove(self, request: EnrolmentRequest) -> None:
        """Take a request out."""
        of_device = self._requests[request.id]
        del of_device[request.claim]
        if not of_device:
            del self._requests[request.id]
        self._uncount(request.address)

    def move(self, request: EnrolmentRequest, address: str) -> None:
        """The device of a request has another address now."""
        self._uncount(request.address)
        request.address = address
        self._of_address[network_of(address)] += 1

    def _uncount(self, address: str) -> None:
        network = network_of(address)
        self._of_address[network] -= 1
        if not self._of_address[network]:
            del self._of_address[network]

    def make_room(
        self, device_id: str, address: str, connected: Collection[EnrolmentKey]
    ) -> list[EnrolmentRequest] | None:
        """The requests, at most four, that one more pushes out; None if there is no room.

        ``connected`` are the requests whose devices are connected.
        """
        network, of_device = network_of(address), self.of(device_id).values()
        of_both = sum(network_of(request.address) == network for request in of_device)
        bounds: tuple[tuple[int, int, Callable[[EnrolmentRequest], bool]], ...] = (
            (of_both, MAX_OF_BOTH, lambda request: request.id == device_id and network_of(request.address) == network),
            (len(of_device), MAX_OF_DEVICE, lambda request: request.id == device_id),
            (self._of_address[network], MAX_OF_ADDRESS, lambda request: network_of(request.address) == network),
            (len(self), self._limit, lambda _request: True),
        )
        going: list[EnrolmentRequest] = []
        for found, limit, within in bounds:
            if found < limit or any(within(request) for request in going):
                continue
            pushed_out = _pushed_out([r for r in self if r.decision is None and within(r)], network, connected)
            if pushed_out is None:
                return None
            going.append(pushed_out)
        return going


def _pushed_out(
    undecided: Collection[EnrolmentRequest], network: str, connected: Collection[EnrolmentKey]
) -> EnrolmentRequest | None:
    """The request within a bound that one from ``network`` pushes out; None if it pushes out none."""
    left = [request for request in undecided if request.key not in connected]
    if left:
        return min(left, key=lambda request: request.since_ns)
    shares = Counter(network_of(request.address) for request in undecided)
    largest = max(shares, key=shares.__getitem__, default=network)
    if shares[largest] < shares[network] + 2:
        return None
    return max((r for r in undecided if network_of(r.address) == largest), key=lambda request: request.since_ns)
