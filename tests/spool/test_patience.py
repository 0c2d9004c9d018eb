from __future__ import annotations

from pathlib import Path

from gateway.spool.patience import Patience

ONE, TWO = Path("/spool/1.seg"), Path("/spool/2.seg")


def tries(patience: Patience, path: Path, start: int) -> int:
    """How often a place is tried again before it is damage."""
    count = 0
    while not patience.is_over(path, start, start + 100):
        patience.spend()
        count += 1
    return count


def test_each_place_has_its_tries_and_is_given_up_with_all_that_was_read() -> None:
    patience = Patience(3)
    assert tries(patience, ONE, 50) == 3
    assert tries(patience, TWO, 50) == 3
    assert [tries(patience, ONE, start) for start in (50, 149, 150, 49)] == [0, 0, 3, 3]
    assert tries(Patience(0), ONE, 50) == 0


def test_only_one_who_waits_before_he_tries_again_spends_a_try() -> None:
    patience = Patience(1)
    patience.spend()
    assert not patience.is_over(ONE, 50, 150)
    assert not patience.is_over(ONE, 50, 150)
    patience.spend()
    assert patience.is_over(ONE, 50, 150)


def test_a_place_that_answers_has_all_its_tries_again_unless_it_was_given_up() -> None:
    patience = Patience(2)
    assert not patience.is_over(ONE, 50, 150)
    patience.spend()
    patience.answered(ONE, 50)
    assert tries(patience, ONE, 50) == 2
    patience.answered(ONE, 50)
    assert tries(patience, ONE, 50) == 0


def test_places_go_with_their_file() -> None:
    patience = Patience(2)
    tries(patience, ONE, 50)
    tries(patience, TWO, 50)
    patience.keep({TWO})
    assert (tries(patience, ONE, 50), tries(patience, TWO, 50)) == (2, 0)
    patience.keep(())
    assert not patience._failed
    assert not patience._given_up
