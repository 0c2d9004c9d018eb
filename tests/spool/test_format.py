"""docs/reference/files.md says what the code does, as far as numbers go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.spool import cursor, quarantine, queue, reader, record, segment

TEXT = " ".join((Path(__file__).parents[2] / "docs/reference/files.md").read_text().split())
MIB = 1024**2


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (r"Segment header\*\*, (\d+) bytes", segment.START),
        (r"Version (\d+) \*\*Segment", segment.VERSION),
        (r"Header of (\d+) bytes, then the body", record.HEADER_BYTES),
        (r"for each entry \(one message of one device\) a row of (\d+) bytes", record.ENTRY_BYTES),
        (r"A commit is (\d+) bytes plus", record.HEADER_BYTES + record.ENTRY_BYTES),
        (r"two slots of (\d+) bytes", cursor._SLOT.size + cursor._CRC.size),
        (r"at offsets 0 and (\d+)", cursor._DISTANCE),
        (r"one chunk of (\d+) KiB", segment._CHUNK // 1024),
        (r"holds (\d+) MiB at most", quarantine.MAX_BYTES // MIB),
        (r"at most (\d+) MiB\) is given back", queue.MAX_RESERVE_BYTES // MIB),
    ],
)
def test_a_number_in_the_document_is_the_one_in_the_code(said: str, number: int) -> None:
    found = re.search(said, TEXT)
    assert found, said
    assert int(found[1]) == number


def test_a_place_is_read_as_often_as_the_document_says() -> None:
    assert "raised and tried again, eight times" in TEXT
    assert reader.MAX_READ_RETRIES == 8
