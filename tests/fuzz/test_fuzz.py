"""What the fuzzer begins with, and all it ever found, on every run; and that it finds what there is to be found."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.inputs import corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_passes(target: str) -> None:
    inputs = corpus(target)
    assert len(inputs) > 1
    for data in inputs:
        TARGETS[target](data)


def test_a_mistake_is_found_and_minimised(capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> None:
        assert b"\n\nk" not in data

    run = fuzz("session", 30, random.Random(1), target)
    assert run.failing is not None
    assert run.failing == b"\n\nk"
    assert "AssertionError" in capsys.readouterr().err
