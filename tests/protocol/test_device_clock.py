from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.device_clock import USUAL_WAY_NS, DeviceClock, Sample, both

MS = 1_000_000
HOUR = 3_600_000 * MS
NOW = 1_700_000_000_000 * MS


def clock(*samples: Sample) -> DeviceClock:
    made = DeviceClock("b1")
    for sample in samples:
        made.note(sample)
    return made


def known(made: DeviceClock, now_ns: int = NOW) -> tuple[int, int, int]:
    estimate = made.estimate(now_ns)
    assert estimate is not None
    return estimate.offset_ns, estimate.uncertainty_ns, estimate.at_ns


def test_nothing_is_known_at_first() -> None:
    assert clock().estimate(NOW) is None
    assert clock().correction(NOW) is None


def test_the_middle_of_an_exchange_is_the_estimate_however_long_it_took() -> None:
    assert known(clock(Sample(NOW, -2_000 * MS, 4_000 * MS, exchanged=True))) == (1_000 * MS, 3_000 * MS, NOW)


def test_without_one_a_message_is_not_taken_to_have_been_under_way_for_long() -> None:
    assert known(clock(Sample(NOW, -HOUR, HOUR))) == (HOUR - USUAL_WAY_NS, 2 * HOUR - USUAL_WAY_NS, NOW)
    assert known(clock(Sample(NOW, 0, 100 * MS))) == (50 * MS, 50 * MS, NOW)


def test_a_poor_sample_takes_nothing_from_a_good_one() -> None:
    good, poor = Sample(NOW, 0, 10 * MS, exchanged=True), Sample(NOW, -HOUR, HOUR)
    assert known(clock(good, poor)) == known(clock(poor, good)) == (5 * MS, 5 * MS, NOW)


def test_what_is_known_grows_old() -> None:
    good = clock(Sample(NOW, 0, 10 * MS, exchanged=True))
    assert known(good, NOW + HOUR) == (5 * MS, 5 * MS + 360 * MS, NOW)
    newer = Sample(NOW + HOUR, -300 * MS, -100 * MS, exchanged=True)
    good.note(newer)
    assert known(good, NOW + HOUR) == (-200 * MS, 100 * MS, NOW + HOUR)


def test_a_clock_that_was_set_is_believed_anew() -> None:
    assert known(clock(Sample(NOW, 0, 10), Sample(NOW, HOUR, HOUR + 10))) == (HOUR + 5, 5, NOW)
    assert clock(Sample(NOW, 0, 10), Sample(NOW, 5, 4)).estimate(NOW) is None


def test_a_correction_stays_for_as_long_as_it_may_be_right() -> None:
    made = clock(Sample(NOW, HOUR, HOUR + 100 * MS, exchanged=True))
    assert made.correction(NOW) == HOUR + 50 * MS
    made.note(Sample(NOW, HOUR, HOUR + 60 * MS, exchanged=True))
    assert made.correction(NOW) == HOUR + 50 * MS
    made.note(Sample(NOW, HOUR, HOUR + 40 * MS, exchanged=True))
    assert made.correction(NOW) == HOUR + 20 * MS
    made.note(Sample(NOW, -HOUR, -HOUR + 2, exchanged=True))
    assert made.correction(NOW) == -HOUR + 1


def test_a_clock_that_may_be_right_is_not_corrected() -> None:
    assert clock(Sample(NOW, -1, 2 * HOUR, exchanged=True)).correction(NOW) is None
    assert clock(Sample(NOW, 0, 2 * HOUR, exchanged=True)).correction(NOW) is None
    assert clock(Sample(NOW, 2, 2 * HOUR, exchanged=True)).correction(NOW) == HOUR + 1


BOUNDS = st.builds(
    lambda at, low, width, exchanged: Sample(at, low, low + width, exchanged),
    st.integers(0, HOUR), st.integers(-HOUR, HOUR), st.integers(0, HOUR), st.booleans(),
)  # fmt: skip


@given(BOUNDS, BOUNDS)
def test_what_two_samples_allow_is_never_wider_than_the_newer_and_within_both_if_they_agree(
    older: Sample, newer: Sample
) -> None:
    found, aged = both(older, newer), older.after(newer.at_ns)
    assert newer.low_ns <= found.low_ns <= found.high_ns <= newer.high_ns
    if aged.low_ns <= newer.high_ns and newer.low_ns <= aged.high_ns:
        assert aged.low_ns <= found.low_ns
        assert found.high_ns <= aged.high_ns
    else:
        assert found == newer
