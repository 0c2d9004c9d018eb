from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MessageError
from gateway.protocol.codec import interpret
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.messages import TimeRequest
from gateway.protocol.session import CloseReason
from gateway.protocol.subprotocols import CBOR, SENML
from gateway.protocol.time_exchange import ARRIVED_NS, MAX_TIME_MS, Exchange
from tests.support.sessions import NOW_NS, Bench, rates

MS = 1_000_000
NOW_MS = NOW_NS // MS


@pytest.mark.parametrize("t0", [0, -1.5, MAX_TIME_MS, -MAX_TIME_MS, 1_700_000_000_000.25])
def test_any_moment_of_the_devices_clock_is_taken(t0: float) -> None:
    assert interpret({"type": "time", "t0": t0, "other": 1}) == TimeRequest(t0, None)
    assert interpret({"type": "time", "t0": t0, "last": {"t0": 5, "t3": t0}}) == TimeRequest(t0, (5, t0))


@pytest.mark.parametrize(
    "message",
    [{}, {"t0": None}, {"t0": "5"}, {"t0": True}, {"t0": MAX_TIME_MS + 1}, {"t0": -1e300}, {"t0": [1]}]
    + [{"t0": 1, "last": last} for last in ([], 5, {}, {"t0": 1}, {"t3": 1}, {"t0": 1, "t3": "x"})],
)
def test_bad_time_requests_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        interpret({"type": "time"} | message)
    assert caught.value.code == "bad_message"


DELAYS_MS = st.integers(0, 3_000)
ROUND = st.tuples(st.integers(0, 120_000), DELAYS_MS, st.integers(0, 20), DELAYS_MS, st.booleans())


@given(st.integers(-(10**12), 10**12), st.integers(-40, 40), DELAYS_MS, DELAYS_MS, st.lists(ROUND, min_size=1))
def test_the_offset_is_where_it_is_said_to_be(
    offset_ms: int, drift_ppm: int, way_ms: int, welcome_ms: int, rounds: list[tuple[int, int, int, int, bool]]
) -> None:
    """Whatever the ways take, and whether or not the device waits for the welcome, and tells when answers arrived; its
    clock may run wrong."""

    def reads(now_ns: int) -> int:
        return (now_ns - offset_ms * MS + (now_ns - NOW_NS) * drift_ppm // 1_000_000) // MS

    exchange, clock, last = Exchange(NOW_NS, NOW_NS + welcome_ms * MS), DeviceClock("b1"), None
    now_ns = NOW_NS + way_ms * MS
    for pause_ms, up_ms, answered_ms, down_ms, tells in rounds:
        asked_ns = now_ns + pause_ms * MS
        request = TimeRequest(reads(asked_ns), last if tells else None, asked_ns + up_ms * MS)
        clock.note(exchange.sample(request))
        exchange.answered(request, sent_ns := request.arrived_ns + answered_ms * MS)
        estimate = clock.estimate(sent_ns)
        assert estimate is not None
        true_ns = offset_ms * MS - (sent_ns - NOW_NS) * drift_ppm // 1_000_000
        assert abs(estimate.offset_ns - true_ns) <= estimate.uncertainty_ns + 1
        now_ns = sent_ns + down_ms * MS
        last = request.t0, reads(now_ns)


def sample_ms(exchange: Exchange, at_ms: int, t0: int, last: tuple[int, int] | None = None) -> tuple[int, int]:
    request = TimeRequest(t0, last, NOW_NS + at_ms * MS)
    found = exchange.sample(request)
    exchange.answered(request, request.arrived_ns)
    return found.low_ns // MS, found.high_ns // MS


def test_requests_in_flight_at_once_do_not_bound_each_other() -> None:
    exchange = Exchange(NOW_NS, NOW_NS)
    assert sample_ms(exchange, 300, NOW_MS) == (-1, 301)
    assert sample_ms(exchange, 400, NOW_MS + 100) == (-101, 301)


def test_a_device_that_asks_right_after_its_hello_is_not_said_to_have_a_wrong_clock() -> None:
    """Over a way of 400 ms: the handshake was answered 800 ms before the hello came, and the request right after it."""
    exchange = Exchange(NOW_NS - 800 * MS, NOW_NS)
    assert sample_ms(exchange, 1, NOW_MS - 400) == (-401, 402)


def test_a_welcome_of_long_ago_bounds_as_the_handshake_does() -> None:
    late_ms = ARRIVED_NS // MS
    assert sample_ms(Exchange(NOW_NS - 800 * MS, NOW_NS), late_ms, NOW_MS + late_ms - 400) == (399 - late_ms, 401)


def test_an_answer_of_long_ago_bounds_as_the_welcome_does() -> None:
    exchange, later = Exchange(NOW_NS, NOW_NS), 300 + ARRIVED_NS // MS
    sample_ms(exchange, 300, NOW_MS)
    assert sample_ms(exchange, later, NOW_MS + later - 50) == (300 - later + 50 - 1, 51)


def test_an_exchange_in_which_the_clock_was_set_says_nothing() -> None:
    exchange = Exchange(NOW_NS, NOW_NS)
    sample_ms(exchange, 10, NOW_MS)
    assert sample_ms(exchange, 60, NOW_MS + 50, last=(NOW_MS, NOW_MS - 5_000)) == (-51, 11)


def test_a_gateway_whose_clock_was_set_back_knows_again_at_the_request_after() -> None:
    exchange, clock = Exchange(NOW_NS, NOW_NS), DeviceClock("b1")
    for at_ms in (-3_600_000, -3_590_000):
        request = TimeRequest(NOW_MS + at_ms, None, NOW_NS + at_ms * MS)
        clock.note(exchange.sample(request))
        exchange.answered(request, request.arrived_ns)
        assert (clock.estimate(request.arrived_ns) is None) is (at_ms == -3_600_000)


def test_cbor_says_the_same() -> None:
    request = {"type": "time", "t0": 1_700_000_000_500.25}
    said = [bench.send(request, after_ms=40) for bench in (Bench().ready(), Bench(subprotocol=CBOR).ready())]
    assert said[0] == said[1]
    assert said[0][0]["answers"] == {**request, "t1": NOW_MS + 40, "t2": NOW_MS + 40}


def test_senml_devices_may_ask() -> None:
    bench = Bench(subprotocol=SENML)
    bench.good()
    assert bench.send({"type": "time", "t0": 5})[0]["answers"] == {"type": "time", "t0": 5, "t1": NOW_MS, "t2": NOW_MS}


def test_what_is_known_is_of_a_boot() -> None:
    bench = Bench()
    bench.good()
    (_, known) = bench.send({"type": "time", "t0": NOW_MS})
    clock = bench.encoder.clock
    assert clock is not None
    assert known["clock"] is not None
    bench.send({"type": "hello", "boot": "b1"})
    assert bench.encoder.clock is clock, "it had not said before which boot it is"
    bench.send({"type": "hello", "boot": "b2"})
    assert bench.encoder.clock is None

    again = Bench(name="s2")
    again.run(again.session.welcome(again.ledger.account("d1"), again.encoder, again.allowance, NOW_NS, clock))
    assert again.encoder.clock is None, "the device has not said that it is still the boot it was"
    again.send({"type": "hello", "boot": "b1"})
    assert again.encoder.clock is clock


def test_a_reload_forgets_no_clock() -> None:
    bench = Bench().ready()
    bench.send({"type": "time", "t0": NOW_MS})
    other = Bench().encoder
    bench.session.renew(bench.session._terms, other, rates())
    assert other.clock is bench.encoder.clock is not None


def test_a_closed_session_does_not_tell_the_time() -> None:
    bench = Bench().ready()
    bench.session.close(CloseReason.REVOKED)
    assert bench.session.tell_time(TimeRequest(5, None, NOW_NS), NOW_NS) == ()
