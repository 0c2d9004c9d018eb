from __future__ import annotations

from pathlib import Path

from gateway.spool.read_retries import ReadRetries

ONE, TWO = Path("/spool/1.seg"), Path("/spool/2.seg")


def tries(retries: ReadRetries, path: Path, start: int) -> int:
    """How often a place is tried again before it is damage."""
    count = 0
    while not retries.is_exhausted(path, start, start + 100):
        retries.count_failure()
        count += 1
    return count


def test_each_place_has_its_tries_and_is_given_up_with_all_that_was_read() -> None:
    retries = ReadRetries(3)
    assert tries(retries, ONE, 50) == 3
    assert tries(retries, TWO, 50) == 3
    assert [tries(retries, ONE, start) for start in (50, 149, 150, 49)] == [0, 0, 3, 3]
    assert tries(ReadRetries(0), ONE, 50) == 0


def test_only_count_failure_uses_up_a_try() -> None:
    retries = ReadRetries(1)
    retries.count_failure()
    assert not retries.is_exhausted(ONE, 50, 150)
    assert not retries.is_exhausted(ONE, 50, 150)
    retries.count_failure()
    assert retries.is_exhausted(ONE, 50, 150)


def test_a_place_that_can_be_read_has_all_its_tries_again_unless_it_was_given_up() -> None:
    retries = ReadRetries(2)
    assert not retries.is_exhausted(ONE, 50, 150)
    retries.count_failure()
    retries.forget(ONE, 50)
    assert tries(retries, ONE, 50) == 2
    retries.forget(ONE, 50)
    assert tries(retries, ONE, 50) == 0


def test_places_are_forgotten_with_their_file() -> None:
    retries = ReadRetries(2)
    tries(retries, ONE, 50)
    tries(retries, TWO, 50)
    retries.keep_only({TWO})
    assert (tries(retries, ONE, 50), tries(retries, TWO, 50)) == (2, 0)
    retries.keep_only(())
    assert not retries._failed
    assert not retries._given_up
