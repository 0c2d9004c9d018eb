from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from devices_sim.effects import Drop, Keep, Ping, Reconnect, Send, Show, Stop, Wake
from devices_sim.protocol import Device, Phase
from devices_sim.tally import Tally


def make(*, ack: str = "durable") -> Device:
    return Device("d1", "b1", Tally(), Random(1), ack=ack)


def tally(device: Device) -> Tally:
    return device._tally


def say(device: Device, now: float = 0.0, **message: Any) -> list[Any]:
    return list(device.received(json.dumps(message).encode(), now))


def welcome(device: Device, now: float = 0.0, last_seq: int | None = None, **over: Any) -> list[Any]:
    return say(device, now, **{"type": "welcome", "boot": "b1", "last_seq": last_seq, **over})


def ready(device: Device, last_seq: int | None = None, **over: Any) -> Device:
    device.opened(0.0)
    welcome(device, last_seq=last_seq, **over)
    return device


def submit(device: Device, count: int = 1, now: float = 0.0, readings: int = 1) -> list[bytes]:
    """The frames that went out while so many messages were submitted."""
    frames: list[bytes] = []
    for _ in range(count):
        frames += sent(device.submit(b"m%d" % device.outbox.next_seq, readings, now))
    return frames


def sent(effects: Any) -> list[bytes]:
    return [effect.data for effect in effects if isinstance(effect, Send)]


def test_the_first_frame_is_a_hello_with_boot_and_ack_level() -> None:
    device = make(ack="stored")
    (hello,) = device.opened(0.0)
    assert isinstance(hello, Send)
    message = json.loads(hello.data)
    assert (message["type"], message["boot"], message["ack"]) == ("hello", "b1", "stored")
    assert device.phase is Phase.GREETING


def test_a_device_without_a_token_asks_waits_and_keeps_what_it_gets() -> None:
    device = make()
    device.enrolment = {"claim": "ABCD-EFGH", "secret": "s" * 22}
    (hello,) = device.opened(0.0)
    assert isinstance(hello, Send)
    assert json.loads(hello.data).items() >= device.enrolment.items()
    assert say(device, type="pending", claim="ABCD-EFGH", expires_in_ms=900_000) == [Show("ABCD-EFGH")]
    assert (device.phase, device.awaits_approval) == (Phase.PENDING, True)
    assert submit(device) == []
    assert list(device.check(19.0)) == []
    assert list(device.check(21.0)) == [Ping()]
    device.heard(21.5)
    assert say(device, 800.0, type="token", token="TOKEN") == [Keep("TOKEN")]
    assert device.phase is Phase.GREETING
    assert sent(welcome(device, 800.0)) == [b"m0"]
    assert not device.awaits_approval
    device.closed(1001, "")
    (hello,) = device.opened(900.0)
    assert isinstance(hello, Send)
    assert not {"claim", "secret"} & json.loads(hello.data).keys()


def test_a_device_that_is_not_approved_asks_again_and_one_that_is_refused_does_not() -> None:
    for code, effect in ((1013, Reconnect), (4401, Stop)):
        device = make()
        device.enrolment = {"claim": "ABCD-EFGH", "secret": "s" * 22}
        device.opened(0.0)
        say(device, type="pending", claim="ABCD-EFGH", expires_in_ms=1000)
        (found,) = device.closed(code, "")
        assert isinstance(found, effect)
        assert device.awaits_approval is (code == 1013)


def test_messages_wait_for_the_welcome_of_their_boot() -> None:
    device = make()
    assert submit(device, 2) == []
    device.opened(0.0)
    assert welcome(device, boot="the gateway's own") == []
    assert sent(welcome(device)) == [b"m0", b"m1"]
    assert submit(device) == [b"m2"]


def test_an_ack_for_what_was_never_sent_is_a_violation() -> None:
    device = ready(make())
    submit(device, 2)
    say(device, type="ack", seq=7)
    assert tally(device).violations == 1
    assert "acknowledges 7" in tally(device).violation_texts[0]
    assert (device.outbox.acked_to, tally(device).acked) == (1, 2)


def test_after_a_reconnect_what_the_gateway_lacks_is_sent_again_in_order() -> None:
    device = ready(make())
    submit(device, 4)
    say(device, type="ack", seq=0)
    device.closed(None, "")
    submit(device)
    device.opened(1.0)
    assert sent(welcome(device, 1.0, last_seq=2)) == [b"m3", b"m4"]
    assert (tally(device).acked, tally(device).resent, tally(device).sent) == (3, 1, 5)


def test_a_gateway_that_forgot_what_it_acknowledged_is_a_violation() -> None:
    device = ready(make())
    submit(device, 3)
    say(device, type="ack", seq=2)
    device.closed(None, "")
    device.opened(0.0)
    welcome(device, last_seq=1)
    assert "acknowledged 2, after a reconnect knows 1" in tally(device).violation_texts[0]


def test_a_refused_reading_is_counted_and_noted_and_not_acknowledged() -> None:
    device = ready(make())
    device.outbox.refused = {}
    submit(device, readings=5)
    say(device, type="reject", seq=0, errors=[{"index": 3, "code": "wrong_type"}, {"index": 1, "code": "bad_name"}])
    say(device, type="ack", seq=0)
    assert (tally(device).acked, tally(device).refused, device.outbox.outstanding) == (3, 2, 0)
    assert device.outbox.refused == {0: [1, 3]}
    assert tally(device).reject_codes == {"wrong_type": 1, "bad_name": 1}


def test_an_error_with_a_seq_refuses_the_message_whole() -> None:
    device = ready(make())
    device.outbox.refused = {}
    submit(device, readings=3)
    say(device, type="error", code="bad_message", message="no", seq=0)
    say(device, type="ack", seq=0)
    assert (tally(device).acked, tally(device).refused, device.outbox.refused) == (0, 3, {0: [0, 1, 2]})


def test_a_throttle_holds_back_until_its_delay_is_over() -> None:
    device = ready(make())
    submit(device, 4)
    throttle: dict[str, Any] = {"type": "throttle", "limit": "spool_bytes", "retry_after_ms": 800, "from_seq": 2}
    (wake,) = say(device, 1.0, **throttle)
    assert wake == Wake(1.8)
    assert submit(device, now=1.5) == []
    assert sent(device.resume(1.8)) == [b"m2", b"m3", b"m4"]
    assert tally(device).throttled == {"spool_bytes": 1}
    assert tally(device).resent == 2


def test_a_delay_is_over_when_the_shell_says_so() -> None:
    device = ready(make())
    submit(device)
    say(device, 1.0, type="throttle", limit="spool_bytes", retry_after_ms=800, from_seq=0)
    assert sent(device.resume(1.799)) == [b"m0"], "a timer may be a hair early, and there is no second one"


def test_a_second_throttle_for_later_messages_leaves_the_earlier_to_be_resent() -> None:
    device = ready(make())
    submit(device, 4)
    for seq in (1, 3):
        say(device, type="throttle", limit="spool_bytes", retry_after_ms=100, from_seq=seq)
    assert sent(device.resume(1.0)) == [b"m1", b"m2", b"m3"]


def test_no_more_messages_are_in_flight_than_the_gateway_allows() -> None:
    device = ready(make(), limits={"max_unacked": 3})
    assert len(submit(device, 5)) == 3
    assert not device.room
    assert sent(say(device, type="ack", seq=1)) == [b"m3", b"m4"]
    assert not device.room
    say(device, type="ack", seq=2)
    assert device.room


def test_a_message_over_the_limit_is_not_sent_and_not_waited_for() -> None:
    device = ready(make(), limits={"max_message_bytes": 4})
    device.outbox.refused = {}
    device.submit(b"too long", 7, 0.0)
    assert submit(device) == [b"m1"]
    say(device, type="ack", seq=1)
    assert (tally(device).oversized, tally(device).sent, tally(device).acked, device.outbox.pending) == (7, 1, 1, {})
    assert device.outbox.refused == {0: list(range(7))}


def test_a_quiet_gateway_is_pinged_once_and_then_given_up() -> None:
    device = ready(make(), keepalive={"ping_interval_ms": 2000, "timeout_ms": 3000})
    assert list(device.check(1.9)) == []
    assert list(device.check(2.1)) == [Ping()]
    assert list(device.check(2.5)) == []
    assert list(device.check(3.1)) == [Drop("gateway silent")]


def test_any_byte_is_life() -> None:
    device = ready(make(), keepalive={"ping_interval_ms": 2000, "timeout_ms": 3000})
    device.check(2.1)
    device.heard(2.9)
    assert list(device.check(4.5)) == []
    assert list(device.check(5.0)) == [Ping()]


def test_a_gateway_that_never_welcomes_is_given_up() -> None:
    device = make()
    device.opened(0.0)
    assert list(device.check(9.9)) == []
    assert list(device.check(10.1)) == [Drop("no welcome")]


def delay(device: Device, code: int | None) -> float:
    (effect,) = device.closed(code, "")
    assert isinstance(effect, Reconnect)
    return effect.after


def test_backoff_starts_again_after_an_ack_and_not_after_a_welcome() -> None:
    device = make()
    for _ in range(20):
        delay(device, None)
    ready(device)
    assert max(delay(device, None) for _ in range(10)) > 5
    ready(device)
    submit(device)
    say(device, type="ack", seq=0)
    assert delay(device, None) <= 0.5


def test_a_drain_says_when_to_come_back() -> None:
    device = ready(make())
    say(device, type="drain", reconnect_after_ms=2300)
    assert delay(device, 1012) == 2.3


def test_a_draining_device_says_nothing_hears_its_acks_and_leaves_a_gateway_that_hangs() -> None:
    device = ready(make())
    submit(device)
    say(device, type="drain", reconnect_after_ms=2300)
    assert not device.submit(b"{}", 1, 0.0)
    say(device, type="ack", seq=0)
    assert (tally(device).acked, tally(device).drained, len(device.outbox.pending)) == (1, 1, 1)
    assert [type(effect) for effect in device.check(1000.0)] == [Drop]
    assert delay(device, None) == 2.3


def test_a_new_connection_knows_nothing_of_an_old_drain() -> None:
    device = ready(make())
    say(device, type="drain", reconnect_after_ms=9000)
    ready(device)
    assert delay(device, None) <= 0.5


def test_refused_credentials_end_it() -> None:
    (effect,) = ready(make()).closed(1008, "the device's credentials were revoked")
    assert isinstance(effect, Stop)
    assert "credentials were revoked" in effect.reason
    (effect,) = ready(make()).closed(4401, "unknown device or wrong token")
    assert isinstance(effect, Stop)
    assert "4401 unknown device or wrong token" in effect.reason


@pytest.mark.parametrize(
    ("status", "stops"), [(401, True), (403, True), (400, True), (404, True), (429, False), (503, False), (408, False)]
)
def test_a_refused_handshake(status: int, stops: bool) -> None:
    (effect,) = make().refused_handshake(status, "why")
    assert isinstance(effect, Stop if stops else Reconnect)


def test_a_device_that_left_does_not_come_back() -> None:
    device = ready(make())
    device.leave()
    assert list(device.closed(1000, "")) == []


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"type":"ack"}', b'{"type":"reject","seq":0}', b"\xff"])
def test_what_cannot_be_read_is_a_violation_and_the_device_goes_on(text: bytes) -> None:
    device = ready(make())
    submit(device)
    assert list(device.received(text, 0.0)) == []
    assert tally(device).violations == 1
    say(device, type="ack", seq=0)
    assert tally(device).acked == 1


def test_messages_of_a_later_version_are_ignored_and_counted() -> None:
    device = ready(make())
    say(device, type="selfdestruct", after_ms=5)
    assert tally(device).ignored == {"selfdestruct": 1}
    assert tally(device).violations == 0


def test_a_heedless_device_goes_on_sending_until_it_comes_to_its_senses() -> None:
    device = ready(make(), limits={"max_unacked": 2})
    device.heedless = True
    assert submit(device, 3) == [b"m0", b"m1", b"m2"]
    assert device.room
    assert say(device, type="throttle", limit="readings_per_second", retry_after_ms=100, from_seq=1) == []
    assert submit(device) == [b"m3"]
    device.heedless = False
    assert not device.room
    device.closed(4429, "a throttle was ignored")
    device.opened(2.0)
    assert sent(welcome(device, 2.0, last_seq=0)) == [b"m1", b"m2"]
