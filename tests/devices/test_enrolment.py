"""Devices that ask to be let in: the requests and their bounds, without a socket."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from gateway.devices import enrolment_queue as waiting
from gateway.devices.enrolment import Enrolment, EnrolmentRefused
from gateway.errors import DeviceExists, EnrolmentConflict, UnknownEnrolment
from gateway.protocol.messages import Enrol
from gateway.protocol.session import CloseReason
from gateway.state.enrolments import EnrolmentDecision, EnrolmentRequest, Enrolments, EnrolmentState
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.state.registered_device import Device

Approved: TypeAlias = "Callable[[str | None], tuple[Socket, EnrolmentRequest]]"
SECRET, OTHER = "s" * 22, "o" * 22
EXPIRY = 900.0
STRANGER = "203.0.113.66"


@dataclass(eq=False)
class Socket:
    """A held device's socket that remembers what became of it."""

    device_id: str = "d1"
    remote: str = "192.0.2.1"
    info: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def enrolled(self, device: Device, token: str) -> None:
        assert device.id == self.device_id
        self.tokens.append(token)

    def enrolment_ended(self, why: CloseReason) -> None:
        self.ended.append(why.name.lower())


class World:
    """Store, registry and the gateway's side of them; ``counted`` are the results."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = Registry(directory / "registry.db")
        self.counted: Counter[str] = Counter()
        self.changed: list[str] = []
        self.enrolling = self.begin()

    def begin(self, most: int = waiting.MAX_REQUESTS) -> Enrolment:
        store = Enrolments(self.directory / "enrolments.db")
        enrolling = Enrolment(
            store, self.registry, lambda result: self.counted.update([result]), self.changed.append, limit=most
        )
        enrolling.recover()
        return enrolling

    def ask(
        self, socket: Socket, claim: str | None = "ABCD-EFGH", secret: str | None = SECRET
    ) -> EnrolmentRequest | EnrolmentRefused:
        return self.enrolling.ask(socket, Enrol(claim, secret), EXPIRY)

    def settle(self) -> None:
        asyncio.run(self.enrolling.settle())

    def settle_while(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> list[str]:
        """Settle, and do ``meanwhile`` on the loop when a token has just been made; the tokens."""
        tokens, enrol, made, go_on = [], self.registry.enrol, threading.Event(), threading.Event()

        def gated(*arguments: Any, **more: Any) -> str:
            tokens.append(enrol(*arguments, **more))
            made.set()
            assert go_on.wait(10)
            return tokens[-1]

        async def both() -> None:
            settling = asyncio.create_task(self.enrolling.settle())
            try:
                assert await asyncio.to_thread(made.wait, 10)
                meanwhile()
            finally:
                go_on.set()
                await settling

        with monkeypatch.context() as patch:
            patch.setattr(self.registry, "enrol", gated)
            asyncio.run(both())
        return tokens

    def decide(
        self, claim: str | None = None, state: EnrolmentState = EnrolmentState.APPROVED, **more: Any
    ) -> EnrolmentRequest:
        """As over HTTP."""
        return asyncio.run(self.enrolling.decide("d1", claim, decision(state, **more)))

    @contextmanager
    def another_process(self) -> Iterator[Enrolments]:
        """The store as the command line has it."""
        self.settle()
        store = Enrolments(self.directory / "enrolments.db")
        yield store
        store.close()

    def close(self) -> None:
        self.enrolling.close()
        self.registry.close()


def decision(
    state: EnrolmentState = EnrolmentState.APPROVED, seconds: float = EXPIRY, **more: Any
) -> EnrolmentDecision:
    return EnrolmentDecision(state, "a test", time.time_ns() + round(seconds * 1e9), **more)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def lets_in(world: World, token: str) -> bool:
    return world.registry.devices.authenticate("d1", token) is not None


def test_a_device_that_is_approved_gets_a_token_that_is_good(world: World) -> None:
    socket = Socket(info={"model": "kiln-2"})
    request = world.ask(socket)
    assert isinstance(request, EnrolmentRequest)
    (shown,) = world.enrolling.shown()
    assert 899_000 < shown["expires"] - shown["since"] <= 900_000
    assert (shown["claim"], shown["address"], shown["info"]) == ("ABCD-EFGH", "192.0.2.1", {"model": "kiln-2"})
    assert (shown["registered"], shown["contested"], shown["connected"]) == (False, False, True)
    world.decide("ABCD-EFGH", profile="kiln", tags={"site": "north"})
    assert [lets_in(world, token) for token in socket.tokens] == [True]
    device = world.registry.devices.show("d1")
    assert (device.profile, device.tags) == ("kiln", {"site": "north"})
    assert world.enrolling.shown() == []
    assert world.counted == {"pending": 1, "approved": 1}


def test_the_command_line_decides_through_the_file(world: World) -> None:
    approved, refused = Socket(), Socket("d2")
    world.ask(approved)
    world.ask(refused)
    with world.another_process() as store:
        assert [(r.id, r.claim, r.decision) for r in store.waiting(time.time_ns())] == [
            ("d1", "ABCD-EFGH", None),
            ("d2", "ABCD-EFGH", None),
        ]
        store.decide("d1", None, decision(), time.time_ns())
        store.decide("d2", None, decision(EnrolmentState.REFUSED), time.time_ns())
        with pytest.raises(UnknownEnrolment, match=r"no device d1 waits for approval$"):
            store.decide("d1", None, decision(EnrolmentState.REFUSED), time.time_ns())
    world.settle()
    assert (len(approved.tokens), approved.ended) == (1, [])
    assert (refused.tokens, refused.ended) == ([], ["not_approved"])
    assert world.registry.devices.lookup("d2") is None


def test_no_token_or_secret_is_on_disk_or_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret, socket = "a-secret-of-22-and-more", Socket()
    world.ask(socket, secret=secret)
    world.decide()
    everything = b"".join(file.read_bytes() for file in world.directory.iterdir())
    assert hashlib.sha256(secret.encode()).digest() in everything
    for hidden in (secret, socket.tokens[0]):
        assert hidden.encode() not in everything
        assert hidden not in caplog.text
    for told in ("asks to be let in, with the claim ABCD-EFGH, from 192.0.2.1", "was approved by a test", "its token"):
        assert told in caplog.text


def test_strangers_use_up_nothing_of_the_lines_that_devices_may_cause(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request = world.ask(Socket("d1"), secret=None)
    world.ask(Socket("d1", "203.0.113.66"), secret=None)
    world.enrolling.left(world.enrolling._sockets["d1", "ABCD-EFGH"], request)  # type: ignore[arg-type]
    assert [hasattr(record, "device") for record in caplog.records] == [False] * 3
    caplog.clear()
    world.ask(Socket())
    world.decide()
    assert [getattr(record, "device", None) for record in caplog.records] == [None, "d1", "d1"]


def test_a_gateway_makes_unique_claims(world: World) -> None:
    requests = [world.ask(Socket(f"d{n}"), claim=None, secret=None) for n in range(40)]
    claims = {request.claim for request in requests if isinstance(request, EnrolmentRequest)}
    assert len(claims) == 40
    assert all(len(claim) == 9 and claim[4] == "-" for claim in claims)


@pytest.mark.parametrize("claim", ["ABCD-EFGH", None, "ANEW-ONEX"])
def test_the_same_secret_goes_on_with_the_same_request(world: World, claim: str | None) -> None:
    first, second = Socket(), Socket(remote="198.51.100.7")
    request = world.ask(first)
    assert world.ask(second, claim) is request
    assert first.ended == ["replaced"]
    world.enrolling.left(first, request)  # type: ignore[arg-type]
    (shown,) = world.enrolling.shown()
    assert (shown["claim"], shown["address"]) == ("ABCD-EFGH", "198.51.100.7")
    assert (shown["connected"], shown["contested"]) == (True, False)
    world.decide()
    assert (len(first.tokens), len(second.tokens)) == (0, 1)


@pytest.mark.parametrize(("first", "second"), [(SECRET, OTHER), (SECRET, None), (None, OTHER)])
def test_who_shows_a_claim_without_its_secret_gets_nothing_and_spoils_it(
    world: World, first: str | None, second: str | None
) -> None:
    socket, thief = Socket(), Socket(remote="203.0.113.66")
    world.ask(socket, secret=first)
    refused = world.ask(thief, secret=second)
    assert isinstance(refused, EnrolmentRefused)
    assert refused.why is CloseReason.CLAIM_TAKEN
    assert [shown["contested"] for shown in world.enrolling.shown()] == [True]
    with pytest.raises(EnrolmentConflict, match="two devices have shown the claim"):
        world.decide()
    world.decide(state=EnrolmentState.REFUSED)
    assert socket.ended == ["not_approved"]


def test_a_claim_that_is_shown_by_another_after_it_was_approved_is_void(world: World) -> None:
    socket = Socket()
    world.ask(socket)
    with world.another_process() as store:
        store.decide("d1", None, decision(), time.time_ns())
        world.ask(Socket(), secret=OTHER)
    world.settle()
    assert (socket.tokens, socket.ended) == ([], ["not_approved"])
    assert world.registry.devices.lookup("d1") is None


def test_without_a_secret_a_claim_is_good_for_one_connection(world: World) -> None:
    first, second = Socket(), Socket()
    request = world.ask(first, secret=None)
    assert world.ask(second, secret=None) is request
    assert first.ended == ["replaced"]
    assert [shown["contested"] for shown in world.enrolling.shown()] == [False]
    assert world.ask(Socket(remote="203.0.113.66"), secret=None) is request
    assert [shown["contested"] for shown in world.enrolling.shown()] == [True]


def test_what_was_approved_of_a_device_without_a_secret_ends_with_its_connection(world: World) -> None:
    socket, later = Socket(), Socket()
    request = world.ask(socket, secret=None)
    with world.another_process() as store:
        store.decide("d1", None, decision(), time.time_ns())
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    world.ask(later, secret=None)
    world.settle()
    assert later.tokens == []
    assert [shown["approved"] for shown in world.enrolling.shown()] == [False]


@pytest.fixture
def approved(world: World) -> Callable[[str | None], tuple[Socket, EnrolmentRequest]]:
    """A device with this secret that asks and is approved; its token is still to be made."""

    def approve(secret: str | None) -> tuple[Socket, EnrolmentRequest]:
        socket = Socket()
        request = world.ask(socket, secret=secret)
        assert isinstance(request, EnrolmentRequest)
        with world.another_process() as store:
            store.decide("d1", None, decision(), time.time_ns())
        return socket, request

    return approve


def test_who_asks_in_the_place_of_a_device_that_left_while_its_token_was_made_gets_nothing(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, request = approved(None)
    stranger = Socket(remote=STRANGER)

    def meanwhile() -> None:
        world.enrolling.left(genuine, request)
        world.ask(stranger, secret=None)

    (token,) = world.settle_while(monkeypatch, meanwhile)
    assert (genuine.tokens, stranger.tokens) == ([], [])
    assert not lets_in(world, token)
    assert [(shown["address"], shown["approved"]) for shown in world.enrolling.shown()] == [(STRANGER, False)]


@pytest.mark.parametrize("remote", [STRANGER, "192.0.2.1"])
def test_who_takes_the_place_of_a_device_while_its_token_is_made_gets_nothing(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch, remote: str
) -> None:
    (genuine, _), stranger = approved(None), Socket(remote=remote)
    (token,) = world.settle_while(monkeypatch, lambda: world.ask(stranger, secret=None))
    assert (genuine.tokens, genuine.ended) == ([], ["replaced"])
    assert (stranger.tokens, stranger.ended) == ([], ["not_approved"])
    assert not lets_in(world, token)


def test_a_claim_that_is_shown_by_another_while_the_token_is_made_is_void(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, _ = approved(SECRET)
    (token,) = world.settle_while(monkeypatch, lambda: world.ask(Socket(remote=STRANGER), secret=OTHER))
    assert (genuine.tokens, genuine.ended) == ([], ["not_approved"])
    assert not lets_in(world, token)


def test_a_device_that_shows_its_secret_may_reconnect_while_its_token_is_made(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(SECRET)
    again = Socket(remote="198.51.100.7")
    assert world.settle_while(monkeypatch, lambda: world.ask(again)) == again.tokens
    assert lets_in(world, again.tokens[0])


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_a_token_that_is_ended_before_it_is_handed_over_is_refused(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    genuine, _ = approved(SECRET)
    own: list[str | None] = []

    def meanwhile() -> None:
        with closing(Registry(world.directory / "registry.db")) as another_process:
            own.append(getattr(another_process, change)("d1"))

    (token,) = world.settle_while(monkeypatch, meanwhile)
    assert world.changed == ["d1"]
    assert (genuine.tokens, genuine.ended) == ([], ["not_approved"])
    assert not lets_in(world, token)
    assert own == [None] or lets_in(world, str(own[0])), "the token of the one who rotated it stays"


def test_a_token_that_was_replaced_meanwhile_is_not_what_is_taken_back(
    world: World, approved: Approved, monkeypatch: pytest.MonkeyPatch
) -> None:
    (genuine, request), own = approved(None), []

    def meanwhile() -> None:
        own.append(world.registry.rotate("d1"))
        world.enrolling.left(genuine, request)

    world.settle_while(monkeypatch, meanwhile)
    assert lets_in(world, own[0])


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("made", [False, True])
def test_an_approval_outlives_a_crash_before_or_after_its_token_was_made(
    world: World, monkeypatch: pytest.MonkeyPatch, made: bool, replaces: bool
) -> None:
    if replaces:
        world.registry.add("d1")
    world.ask(Socket())
    with world.another_process() as store:
        store.decide("d1", None, decision(replaces=replaces), time.time_ns())
    enrol = world.registry.enrol

    def crash(*arguments: Any, **more: Any) -> None:
        if made:
            enrol(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.registry, "enrol", crash)
        with pytest.raises(KeyboardInterrupt):
            world.settle()
    world.enrolling.close()
    world.enrolling = world.begin()
    back = Socket()
    world.ask(back)
    world.settle()
    assert back.ended == []
    assert lets_in(world, back.tokens[0])


def test_a_device_that_was_revoked_after_its_token_was_made_stays_so_over_a_restart(world: World) -> None:
    world.ask(Socket())
    world.decide(replaces=True)
    world.settle()
    world.registry.revoke("d1")
    world.enrolling.close()
    world.enrolling = world.begin()
    back = Socket()
    world.ask(back)
    world.settle()
    assert (back.tokens, back.ended) == ([], ["not_approved"])


def test_two_devices_of_one_id_are_two_requests_and_one_claim_is_chosen(world: World) -> None:
    genuine, other = Socket(), Socket()
    world.ask(genuine, "AAAA-AAAA")
    world.ask(other, "BBBB-BBBB", OTHER)
    with pytest.raises(EnrolmentConflict, match="AAAA-AAAA, BBBB-BBBB"):
        world.decide()
    world.decide("AAAA-AAAA")
    assert (len(genuine.tokens), len(other.tokens)) == (1, 0)
    with pytest.raises(DeviceExists):
        world.decide("BBBB-BBBB")


@pytest.mark.parametrize("revoked", [False, True])
def test_a_registered_id_asks_like_any_other_and_is_replaced_only_expressly(world: World, revoked: bool) -> None:
    old = world.registry.add("d1", "kiln", {"site": "north"})
    if revoked:
        world.registry.revoke("d1")
    world.registry.refresh()
    socket = Socket()
    assert isinstance(world.ask(socket), EnrolmentRequest)
    assert [shown["registered"] for shown in world.enrolling.shown()] == [True]
    with pytest.raises(DeviceExists, match="with replace"):
        world.decide()
    assert socket.tokens == []
    world.decide(replaces=True)
    assert (lets_in(world, socket.tokens[0]), lets_in(world, old)) == (True, False)
    device = world.registry.devices.show("d1")
    assert (device.profile, device.tags, device.revoked) == ("kiln", {"site": "north"}, False)
    assert world.changed == ([] if revoked else ["d1"])


def test_a_device_registered_between_approval_and_token_keeps_its_own(world: World) -> None:
    socket = Socket()
    world.ask(socket)
    with world.another_process() as store:
        store.decide("d1", None, decision(), time.time_ns())
    own = world.registry.add("d1")
    world.settle()
    assert (socket.tokens, socket.ended) == ([], ["not_approved"])
    assert lets_in(world, own)


def test_a_token_that_got_lost_is_not_made_anew_once_another_has_shown_the_claim(world: World) -> None:
    socket, thief, again = Socket(), Socket(), Socket()
    world.ask(socket)
    world.decide()
    assert isinstance(world.ask(thief, secret=OTHER), EnrolmentRefused)
    world.ask(again, None)
    world.settle()
    assert (again.tokens, thief.tokens) == ([], [])
    assert lets_in(world, socket.tokens[0])


def test_a_lost_token_ends_when_its_device_has_another(world: World) -> None:
    socket, again = Socket(), Socket()
    request = world.ask(socket)
    world.decide()
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    world.ask(again)
    world.settle()
    assert (lets_in(world, socket.tokens[0]), lets_in(world, again.tokens[0])) == (False, True)


def test_who_has_come_with_the_token_is_given_no_other(world: World) -> None:
    socket, again = Socket(), Socket()
    request = world.ask(socket)
    world.decide()
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    world.enrolling.arrived("d1")
    world.ask(again)
    world.settle()
    assert again.tokens == []
    assert [shown["approved"] for shown in world.enrolling.shown()] == [False]


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_a_secret_brings_no_revoked_device_back(world: World, change: str) -> None:
    socket, again = Socket(), Socket()
    request = world.ask(socket)
    world.decide()
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    getattr(world.registry, change)("d1")
    world.ask(again)
    world.settle()
    assert (again.tokens, again.ended) == ([], ["not_approved"])


def test_an_approved_device_that_is_away_finds_its_token_when_it_comes_back_even_after_a_restart(world: World) -> None:
    socket, back = Socket(), Socket()
    request = world.ask(socket)
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    world.decide()
    assert world.registry.devices.lookup("d1") is None
    world.settle()
    world.enrolling.close()
    world.enrolling = world.begin()
    world.ask(back, None)
    world.settle()
    assert lets_in(world, back.tokens[0])


def test_what_was_refused_while_the_gateway_was_down_stays_so_and_is_asked_anew(world: World) -> None:
    socket, back = Socket(), Socket()
    request = world.ask(socket)
    world.enrolling.left(socket, request)  # type: ignore[arg-type]
    with world.another_process() as store:
        world.enrolling.close()
        store.decide("d1", None, decision(EnrolmentState.REFUSED), time.time_ns())
    world.enrolling = world.begin()
    world.ask(back)
    world.settle()
    assert (back.tokens, back.ended) == ([], [])
    assert world.registry.devices.lookup("d1") is None
    assert [(shown["claim"], shown["approved"]) for shown in world.enrolling.shown()] == [("ABCD-EFGH", False)]
    world.decide()
    assert lets_in(world, back.tokens[0])


def test_an_undecided_request_expires_and_its_connection_is_closed(world: World) -> None:
    held = Socket()
    world.enrolling.ask(held, Enrol("ABCD-EFGH", SECRET), 0.0)
    world.settle()
    assert held.ended == ["approval_expired"]
    assert len(world.enrolling) == 0
    assert world.counted == {"pending": 1, "expired": 1}
    with pytest.raises(UnknownEnrolment):
        world.decide()


def test_an_approval_that_is_not_fetched_expires(world: World) -> None:
    request = world.ask(Socket())
    world.enrolling.left(next(iter(world.enrolling._sockets.values())), request)  # type: ignore[arg-type]
    with world.another_process() as store:
        store.decide("d1", None, decision(seconds=-1), time.time_ns())
    world.settle()
    assert len(world.enrolling) == 0


def full(asked: EnrolmentRequest | EnrolmentRefused) -> bool:
    return isinstance(asked, EnrolmentRefused) and asked.why is CloseReason.APPROVAL_QUEUE_FULL


def test_a_flood_of_requests_is_bounded_by_device_by_address_and_in_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.enrolling._queue, "_limit", 60)
    for n in range(waiting.MAX_OF_DEVICE):
        assert not full(world.ask(Socket("one", f"192.0.2.{n}"), f"AAAA-AAA{n}", secret=None))
    assert full(world.ask(Socket("one", "192.0.2.200"), "BBBB-BBBB"))
    for n in range(waiting.MAX_OF_BOTH):
        assert not full(world.ask(Socket("two", "192.0.2.1"), f"AAAA-AAA{n}", secret=None))
    assert full(world.ask(Socket("two", "192.0.2.1"), "BBBB-BBBB"))
    of_address = 60 - len(world.enrolling)
    assert of_address == waiting.MAX_OF_ADDRESS
    for n in range(of_address):
        assert not full(world.ask(Socket(f"v6-{n}", f"2001:db8::{n:x}")))
    assert full(world.ask(Socket("v6-x", "2001:db8::ffff:1")))
    assert len(world.enrolling) == 60
    assert world.counted == {"pending": 60, "too_many": 3}


def test_filling_the_places_of_an_id_from_few_addresses_keeps_no_other_out(world: World) -> None:
    flood = [Socket("one", f"203.0.113.{n % 4}") for n in range(waiting.MAX_OF_DEVICE)]
    for n, socket in enumerate(flood):
        assert not full(world.ask(socket, f"AAAA-AAA{n}", secret=None))
    genuine = Socket("one", "192.0.2.1")
    assert not full(world.ask(genuine, "KKKK-KKKK"))
    assert [socket.ended for socket in flood if socket.ended] == [["approval_queue_full"]]
    assert full(world.ask(Socket("one", flood[1].remote), "BBBB-BBBB", OTHER))
    assert genuine.ended == []
    assert world.counted["pushed_out"] == 1


def test_filling_all_places_from_one_address_keeps_no_other_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.enrolling._queue, "_limit", 40)
    flood = [Socket(f"flood-{n}", "203.0.113.66") for n in range(40)]
    assert not any(full(world.ask(socket)) for socket in flood)
    genuine = [Socket(f"d{n}", f"192.0.2.{n}") for n in range(20)]
    assert not any(full(world.ask(socket)) for socket in genuine)
    assert [bool(socket.ended) for socket in flood] == [False] * 20 + [True] * 20
    assert not any(socket.ended for socket in genuine)


def test_an_approved_request_does_not_give_way(world: World) -> None:
    sockets = [Socket("d1", f"203.0.113.{n % 4}") for n in range(waiting.MAX_OF_DEVICE)]
    requests = [world.ask(socket, f"AAAA-AAA{n}", secret=None) for n, socket in enumerate(sockets)]
    for request in requests:
        assert isinstance(request, EnrolmentRequest)
        request.decision = decision()
    assert full(world.ask(Socket("d1", "192.0.2.1"), "KKKK-KKKK"))


def test_the_protocol_tells_the_bounds() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text(encoding="utf-8")
    of_device = f"{waiting.MAX_OF_DEVICE} of an id, {waiting.MAX_OF_BOTH} of these of one address"
    assert f"({waiting.MAX_REQUESTS:,} in all, {waiting.MAX_OF_ADDRESS} of an address, {of_device})" in text


def test_a_request_whose_device_has_left_makes_room_and_a_connected_one_does_not(world: World) -> None:
    sockets = [Socket("one") for _ in range(waiting.MAX_OF_BOTH)]
    requests = [world.ask(socket, f"AAAA-AAA{n}", secret=str(n) * 22) for n, socket in enumerate(sockets)]
    world.enrolling.left(sockets[1], requests[1])  # type: ignore[arg-type]
    assert not full(world.ask(Socket("one"), "BBBB-BBBB"))
    assert full(world.ask(Socket("one"), "CCCC-CCCC", OTHER))
    claims = {shown["claim"] for shown in world.enrolling.shown()}
    assert claims == {"AAAA-AAA0", "BBBB-BBBB"}


def test_what_a_device_tells_is_kept_only_if_it_is_short(world: World) -> None:
    world.ask(Socket(info={"text": "x" * 2000}))
    assert [shown["info"] for shown in world.enrolling.shown()] == [{}]


def test_a_file_that_fails_loses_nothing_that_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    socket, gone = Socket(), Socket("d2")
    world.ask(socket)
    left = world.ask(gone, secret=None)
    store = world.enrolling._store

    def fails(*_arguments: Any) -> Any:
        world.enrolling.left(gone, left)  # type: ignore[arg-type]
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(store, "sync", fails)
        with pytest.raises(OSError, match="the disk is gone"):
            world.settle()
    world.settle()
    assert [request.id for request in store.waiting(time.time_ns())] == ["d1"]
