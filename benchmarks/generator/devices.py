"""All devices of one run in one process and one thread: connected, paced, listened to."""

from __future__ import annotations

import os
import select
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.generator.link import OPEN, Link, upgrade_request
from benchmarks.generator.orders import Pace, Target
from benchmarks.generator.pacing import AsTaken, ByClock, Pacer
from benchmarks.generator.tally import Tally
from benchmarks.messages import FIN_PING, Frames, client_frame

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 30.0
POLL_SECONDS = 1.0
STDIN = 0
PING = client_frame(FIN_PING, b"")


class Generator:
    """All devices of one target, in one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._epoll.register(STDIN, select.EPOLLIN)
        self._tally = Tally()
        self._links: dict[int, Link] = {}
        self._waiting: deque[Link] = deque()
        self._pacer: Pacer | None = None
        self._input = b""
        self._done = False
        self._unopened = 0
        self._cpu = 0.0
        self._probed_at = 0.0
        self._actions: dict[str, Callable[..., None]] = {
            "connect": self._connect,
            "go": self._go,
            "window": self._window,
            "probe": self._probe,
            "report": self._report,
        }

    def run(self) -> None:
        """Serve orders until there are no more."""
        while not self._done:
            wait = self._pacer.step() if self._pacer else POLL_SECONDS
            if self._tally.behind:
                wait = min(wait, self._send_again())
            for fd, events in self._epoll.poll(wait):
                if fd == STDIN:
                    self._orders()
                else:
                    self._event(self._links[fd], events)
            self._check()

    def _send_again(self) -> float:
        """Resume devices whose throttle is over. Returns how long to wait for the next."""
        now, behind = monotonic(), self._tally.behind
        for link in [link for link in behind if link.held_until <= now]:
            while link.fd >= 0 and link.behind and not link.rest:
                link.send(self._frames.made[link.next])
            if link.fd < 0 or not link.behind:
                behind.discard(link)
                if self._pacer:
                    self._pacer.freed(link)
            if link.rest:
                self._watch(link)
        return max(0.001, min((link.held_until for link in behind), default=POLL_SECONDS + now) - now)

    def _check(self) -> None:
        if self._pacer and self._pacer.finished:
            finished, self._pacer = self._pacer.summary(), None
            finished |= {"at": monotonic(), "generator_cpu": time.process_time() - self._cpu}
            _tell("sent", **finished)
        if self._probed_at:
            pongs = sum(link.pongs > 0 for link in self._links.values())
            if pongs == len(self._links) or monotonic() > self._probed_at + PROBE_SECONDS:
                _tell("probed", pongs=pongs, seconds=monotonic() - self._probed_at)
                self._probed_at = 0.0

    def _orders(self) -> None:
        data = os.read(STDIN, 65536)
        self._done = not data
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            order = orjson.loads(line)
            self._actions[order.pop("order")](**order)

    def _connect(self, **target_fields: Any) -> None:
        self._target = target = Target(**target_fields)
        self._frames = Frames(target.form)
        context = None
        if target.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the server is our own child
        tokens = dict(line.split() for line in Path(target.tokens).read_text().splitlines()) if target.tokens else {}
        for number in range(target.first, target.first + target.connections):
            device = device_name(number)
            request = upgrade_request(target.path.format(device=device), target.port, tokens.get(device, ""))
            self._waiting.append(Link(number, request, context, self._tally))
        self._unopened = target.connections
        self._connect_started = monotonic()
        for _ in range(target.at_once):
            self._open_next()

    def _open_next(self) -> None:
        if self._waiting:
            link = self._waiting.popleft()
            link.connect(self._target.port)
            self._links[link.fd] = link
            self._epoll.register(link.fd, select.EPOLLIN | select.EPOLLOUT)

    def _event(self, link: Link, events: int) -> None:
        try:
            if not self._is_open(link):
                self._opening(link)
                return
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                link.readable()
            if events & select.EPOLLOUT and link.rest:
                link.flush()
            if events & select.EPOLLOUT or link.rest:
                self._watch(link)
        except OSError as error:
            self._lost(link, error)
            return
        if self._pacer:
            self._pacer.freed(link)

    def _is_open(self, link: Link) -> bool:
        return link.state == OPEN and (link.welcome or not self._target.acks)

    def _opening(self, link: Link) -> None:
        if link.state == OPEN:
            link.readable()
        else:
            link.opening()
            self._watch(link)
        if self._is_open(link):
            self._tally.opening.append(monotonic() - link.started)
            self._opened()

    def _opened(self) -> None:
        self._unopened -= 1
        self._open_next()
        if not self._unopened:
            seconds = monotonic() - self._connect_started
            _tell(
                "connected", links=len(self._links), seconds=seconds, **self._tally.connecting(), **self._tally.totals()
            )

    def _watch(self, link: Link) -> None:
        self._epoll.modify(link.fd, select.EPOLLIN | select.EPOLLOUT if link.wants_write else select.EPOLLIN)

    def _lost(self, link: Link, error: OSError) -> None:
        was_open = self._is_open(link)
        self._tally.failures[f"{'open' if was_open else 'connecting'}: {error}"[:200]] += 1
        self._epoll.unregister(link.fd)
        del self._links[link.fd]
        link.close()
        if not was_open:
            self._opened()

    def _go(self, **pace_fields: Any) -> None:
        pace = Pace(**pace_fields)
        links = list(self._links.values())
        self._frames.up_to(max((link.next for link in links), default=0) + pace.messages + 1)
        self._tally.window()
        self._cpu = time.process_time()
        _tell("started", at=monotonic())
        if pace.rate:
            self._pacer = ByClock(links, self._frames.made, pace, self._watch)
        else:
            self._pacer = AsTaken(links, self._frames.made, pace, self._watch, acks=self._target.acks)

    def _window(self) -> None:
        _tell("window", **self._tally.window())

    def _report(self) -> None:
        _tell("report", links=len(self._links), **self._tally.totals())

    def _probe(self) -> None:
        self._probed_at = monotonic()
        for link in self._links.values():
            link.pongs = 0
            link.control(PING)
            self._watch(link)


def device_name(number: int) -> str:
    """The id of a device, as registered."""
    return f"d{number:05}"


def _tell(event: str, **facts: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": event, **facts}) + b"\n")
    sys.stdout.buffer.flush()
