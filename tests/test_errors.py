"""What an operator reads of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.errors import SpoolError, in_words

if TYPE_CHECKING:
    from pathlib import Path


def test_an_error_of_the_system_is_its_file_and_reason(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "nothing").open()
    assert in_words(caught.value) == f"{tmp_path / 'nothing'}: No such file or directory"
    assert in_words(OSError(98, "Address already in use")) == "Address already in use"
    assert in_words(OSError("odd")) == "odd"
    assert in_words(SpoolError("the spool is full")) == "the spool is full"
