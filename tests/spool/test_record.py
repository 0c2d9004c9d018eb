from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SpoolError
from gateway.ledger import NO_SEQ, Entry, Kind
from gateway.spool.record import HEADER_BYTES, MAGIC, MAX_BODY_BYTES, decode_run, encode, find_fault, key, needle

LINE = b"telemetry,device=d1 temp=21.5 1700000000123000000\n"


def entry(**over: object) -> Entry:
    values: dict[str, object] = {"device": "d1", "boot": "b", "seq": 7, "lines": 1, "payload": LINE, **over}
    return Entry(**values)  # type: ignore[arg-type]


def u(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


entries = st.lists(
    st.builds(
        Entry,
        device=st.text(max_size=20),
        boot=st.text(st.characters(), max_size=64),
        seq=st.integers(NO_SEQ, 2**53),
        lines=u(32),
        duplicate=u(32),
        rejected=u(32),
        gaps=u(64),
        payload=st.binary(max_size=50),
        verdicts=st.binary(max_size=50),
        kind=st.sampled_from(Kind),
        arrived_ns=st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=5,
)


@given(record_id=u(64), committed_ns=st.integers(-(2**63), 2**63 - 1), batch=entries)
def test_a_written_record_is_read_back(record_id: int, committed_ns: int, batch: list[Entry]) -> None:
    if sum(e.lines for e in batch if e.kind is Kind.READINGS) >= 2**32:
        return
    data = encode(record_id, committed_ns, batch)
    [record], end = decode_run(data, 0, record_id)
    assert end == record.size == len(data)
    assert (record.id, record.committed_ns, record.entries) == (record_id, committed_ns, batch)
    assert record.payload == b"".join(e.payload for e in batch)
    assert record.readings == sum(e.accepted for e in batch)


def bitwise_crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4, the slow way: a second opinion."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_layout_is_the_one_of_version_1() -> None:
    data = encode(3, 5, [entry(seq=1, verdicts=b"[]", payload=b"x\n", gaps=2, arrived_ns=9)])
    body = bytes.fromhex(
        "0100000000000000 d59113af20442f53 0900000000000000 0200000000000000"  # seq, key, arrived, gaps
        "01000000 00000000 00000000 02000000 02000000 0200 0100 00"  # lines, duplicate, rejected, lengths, kind
        "6431 62 5b5d 780a"  # device, boot, verdicts, payload
    )
    fields = (
        bytes.fromhex("0300000000000000 0500000000000000 40000000")
        + bitwise_crc32c(body).to_bytes(4, "little")
        + bytes.fromhex("3e000000 01000000 01000000")
    )
    assert data == b"\xffTGR" + bitwise_crc32c(fields).to_bytes(4, "little") + fields + body


def test_a_key_tells_devices_and_numbers_apart_and_is_known_for_ever() -> None:
    assert key("d1", 1) == (bitwise_crc32c(b"d1") * 0x9E3779B97F4A7C15 + 0xD6E8FEB86659FD93) % 2**64
    assert len({key(f"d{device}", seq) for device in range(100) for seq in range(-1, 1000)}) == 100_100
    assert 0 <= key("d1", 2**53) < 2**64
    assert needle("d1", 7) in encode(3, 5, [entry(seq=6), entry(seq=7)])
    assert needle("dü", NO_SEQ) in encode(3, 5, [entry(), entry(device="dü", seq=NO_SEQ)])


def test_the_checksum_is_computed_in_c() -> None:
    assert google_crc32c.implementation == "c"


def test_every_flipped_bit_is_noticed() -> None:
    data = encode(3, 5, [entry()])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_run(bytes(flipped), 0, 0) == ([], 0), f"bit {bit}"


def test_every_cut_is_noticed() -> None:
    data = encode(3, 5, [entry()])
    for length in range(len(data)):
        assert decode_run(data[:length], 0, 0) == ([], 0)
        fault, needed = find_fault(data[:length], 0, 0)
        assert "cut short" in fault
        assert needed == (HEADER_BYTES if length < HEADER_BYTES else len(data))


def test_a_run_ends_at_the_first_thing_that_is_no_record() -> None:
    first, second, third = (encode(number, 0, [entry()]) for number in (4, 5, 6))
    records, end = decode_run(b"??" + first + second + b"?" + third, 2, 4)
    assert [record.id for record in records] == [4, 5]
    assert end == 2 + len(first) + len(second)


def test_ids_only_grow() -> None:
    data = encode(4, 0, [entry()])
    assert decode_run(data, 0, 5) == ([], 0)
    assert find_fault(data, 0, 5) == ("record 4 stands where 5 or later was due", 0)
    records, end = decode_run(data + data, 0, 1)
    assert (len(records), end) == (1, len(data))


def test_faults_are_told_apart() -> None:
    data = encode(4, 0, [entry()])
    assert find_fault(b"?" + data, 0, 0) == ("not the header of a record", 0)
    assert find_fault(data[:-1] + b"?", 0, 0) == ("the checksum of record 4 does not fit", 0)


@given(st.text())
def test_no_text_looks_like_a_record(text: str) -> None:
    assert MAGIC[:1] not in text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("over", [{"lines": -1}, {"boot": "b" * 70_000}, {"gaps": 2**64}])
def test_an_entry_outside_the_limits_is_refused_by_its_name(over: dict[str, object]) -> None:
    with pytest.raises(SpoolError, match="device 'd1'"):
        encode(1, 0, [entry(**over)])


def test_a_record_has_a_largest_size() -> None:
    with pytest.raises(SpoolError, match="more than a record holds"):
        encode(1, 0, [entry(payload=bytes(MAX_BODY_BYTES))])
