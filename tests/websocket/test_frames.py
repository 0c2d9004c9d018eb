from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.websocket.frames import (
    BINARY,
    BYTES_PER_FRAGMENT,
    COMPRESSED,
    CONTINUATION,
    FINAL,
    FRAMES_PER_TURN,
    MIN_FRAGMENTS,
    PING,
    POLICY,
    PONG,
    TEXT,
    CloseFrame,
    Frame,
    FrameParser,
    Violation,
    decode_close,
    encode_close,
    encode_frame,
)
from tests.support.legal_streams import chunked, legal_streams
from tests.support.streams import MASK, client_frame, unmask

LIMIT = 65536


def parser(*, limit: int = LIMIT, compression: bool = False) -> FrameParser:
    return FrameParser(limit, unmask, compression=compression)


def drain(reader: FrameParser, chunk: bytes) -> list[Frame]:
    found = reader.feed(chunk)
    while reader.has_more:
        found += reader.next_frames()
    return found


def read(*chunks: bytes, compression: bool = False, limit: int = LIMIT) -> tuple[list[Frame], Violation | None]:
    reader = parser(limit=limit, compression=compression)
    return [frame for chunk in chunks for frame in drain(reader, chunk)], reader.violation


def test_the_examples_of_rfc_6455_section_5_7() -> None:
    assert read(bytes.fromhex("818537fa213d7f9f4d5158")) == ([(TEXT, b"Hello")], None)
    assert read(bytes.fromhex("898537fa213d7f9f4d5158")) == ([(PING, b"Hello")], None)
    assert encode_frame(FINAL | TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert encode_frame(FINAL | BINARY, b"x" * 256)[:4] == bytes.fromhex("827e0100")
    assert encode_frame(FINAL | BINARY, b"x" * 65536)[:10] == bytes.fromhex("827f0000000000010000")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_every_length_form(size: int, opcode: int) -> None:
    payload = bytes(range(256)) * 257
    assert read(client_frame(FINAL | opcode, payload[:size])) == ([(opcode, payload[:size])], None)


def test_fragments_become_one_message_and_control_frames_pass_between_them() -> None:
    stream = (
        client_frame(TEXT, b"ab")
        + client_frame(FINAL | PING, b"p")
        + client_frame(CONTINUATION, b"")
        + client_frame(FINAL | PONG)
        + client_frame(FINAL | CONTINUATION, b"cd")
        + client_frame(FINAL | TEXT, b"next")
    )
    assert read(stream) == ([(PING, b"p"), (PONG, b""), (TEXT, b"abcd"), (TEXT, b"next")], None)


def test_the_mark_of_compression_is_that_of_the_first_fragment() -> None:
    stream = client_frame(COMPRESSED | BINARY, b"ab") + client_frame(FINAL | CONTINUATION, b"c")
    assert read(stream, compression=True) == ([(COMPRESSED | BINARY, b"abc")], None)


ILLEGAL = {
    "unmasked": (client_frame(FINAL | TEXT, b"x", mask=None), "frame is not masked"),
    "unmasked close of two bytes": (b"\x88\x00", "frame is not masked"),
    "reserved bit 1": (client_frame(FINAL | 0x40 | TEXT)[:2], "reserved bit is set"),
    "reserved bit 2": (client_frame(FINAL | 0x20 | TEXT)[:2], "reserved bit is set"),
    "reserved bit 3": (client_frame(FINAL | 0x10 | TEXT)[:2], "reserved bit is set"),
    "opcode 3": (client_frame(FINAL | 3)[:2], "opcode 3 is not known"),
    "opcode 11": (client_frame(FINAL | 11)[:2], "opcode 11 is not known"),
    "fragmented ping": (client_frame(PING)[:2], "control frame is fragmented"),
    "ping of 126 bytes": (client_frame(FINAL | PING, b"x" * 126)[:2], "control frame is too long"),
    "continuation of nothing": (client_frame(FINAL | CONTINUATION)[:2], "nothing to continue"),
    "message in a message": (
        client_frame(TEXT) + client_frame(FINAL | TEXT)[:2],
        "message inside a fragmented message",
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_is_illegal_is_refused_at_the_second_byte(name: str) -> None:
    stream, reason = ILLEGAL[name]
    before = client_frame(FINAL | BINARY, b"before")
    assert read(before + stream) == ([(BINARY, b"before")], Violation(1002, reason))


@pytest.mark.parametrize("first", [FINAL | COMPRESSED | CONTINUATION, FINAL | COMPRESSED | PING, FINAL | 0x60 | TEXT])
def test_compression_marks_only_the_first_frame_of_a_message(first: int) -> None:
    _, violation = read(client_frame(TEXT), client_frame(first)[:2], compression=True)
    assert violation == Violation(1002, "reserved bit is set")


def test_nothing_is_read_after_a_violation() -> None:
    reader = parser()
    assert reader.feed(b"\x81\x00") == []
    assert reader.feed(client_frame(FINAL | TEXT, b"x")) == []
    assert not reader.has_more


def test_a_message_of_the_limit_passes_and_one_byte_more_is_refused_by_its_header() -> None:
    assert read(client_frame(FINAL | TEXT, b"x" * LIMIT))[1] is None
    too_big = Violation(1009, "message is larger than 65536 bytes")
    assert read(client_frame(FINAL | TEXT, b"x" * (LIMIT + 1))[:14]) == ([], too_big)
    assert read(b"\x81\xff" + b"\xff" * 12) == ([], too_big)


def test_fragments_are_limited_together() -> None:
    first, second = client_frame(TEXT, b"x" * 40000), client_frame(FINAL | CONTINUATION, b"x" * 25536)
    assert read(first + second)[1] is None
    assert read(first + client_frame(FINAL | CONTINUATION, b"x" * 25537)[:8])[1] == Violation(
        1009, "message is larger than 65536 bytes"
    )
    assert read(client_frame(TEXT, b"x" * LIMIT) + client_frame(FINAL | PING, b"y"))[0] == [(PING, b"y")]


def test_a_limit_below_the_short_form_holds() -> None:
    assert read(client_frame(FINAL | TEXT, b"x" * 10), limit=10)[1] is None
    assert read(client_frame(FINAL | TEXT, b"x" * 11), limit=10)[1] == Violation(
        1009, "message is larger than 10 bytes"
    )


def test_one_call_parses_a_turn_and_more_the_rest() -> None:
    stream = b"".join(client_frame(FINAL | TEXT, b"%d" % i) for i in range(2 * FRAMES_PER_TURN + 1))
    reader = parser()
    sizes = [len(reader.feed(stream + b"\x81"))]
    while reader.has_more:
        sizes.append(len(reader.next_frames()))
    assert sizes == [FRAMES_PER_TURN, FRAMES_PER_TURN, 1]
    assert drain(reader, client_frame(FINAL | TEXT, b"end")[1:]) == [(TEXT, b"end")]


def test_asking_for_more_does_not_forget_how_much_a_frame_needs() -> None:
    reader = parser()
    reader.feed(client_frame(FINAL | TEXT, b"x" * 1000)[:500])
    assert reader.next_frames() == []
    assert reader._needed == 1008  # else the whole of it is looked at again for every chunk


def test_empty_fragments_count_for_the_turn() -> None:
    reader = parser()
    assert reader.feed(client_frame(TEXT) + client_frame(CONTINUATION) * FRAMES_PER_TURN) == []
    assert reader.has_more


def test_bytes_that_come_before_a_turn_is_over_are_kept_in_order() -> None:
    stream = b"".join(client_frame(FINAL | TEXT, b"%d" % i) for i in range(3 * FRAMES_PER_TURN))
    reader = parser()
    found = reader.feed(stream[:-3]) + drain(reader, stream[-3:])
    assert [int(payload) for _, payload in found] == list(range(3 * FRAMES_PER_TURN))


def test_a_large_message_in_small_chunks_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        stream = client_frame(FINAL | BINARY, bytes(size), mask=b"\0" * 4)
        reader = FrameParser(size, lambda _, data: data)
        start = time.process_time()
        for at in range(0, len(stream), 64):
            found = reader.feed(stream[at : at + 64])
        assert found == [(BINARY, bytes(size))]
        return time.process_time() - start

    assert seconds(1 << 22) < 8 * seconds(1 << 20) + 0.5


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(legal_streams(), st.data())
def test_any_cut_of_a_legal_stream_says_the_same(case: tuple[bytes, list[Frame]], data: st.DataObject) -> None:
    stream, frames = case
    assert read(*data.draw(chunked(stream))) == (frames, None)


def test_every_single_byte_alone() -> None:
    stream = client_frame(TEXT, b"a" * 130) + client_frame(FINAL | PING) + client_frame(FINAL | CONTINUATION, b"b" * 3)
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == ([(PING, b""), (TEXT, b"a" * 130 + b"bbb")], None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400), st.data(), st.booleans())
def test_any_bytes_in_any_cut_are_judged_alike(stream: bytes, data: st.DataObject, compression: bool) -> None:
    chunks = data.draw(chunked(stream))
    assert read(*chunks, compression=compression) == read(stream, compression=compression)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_valid_close_codes(code: int) -> None:
    assert decode_close(struct.pack(">H", code) + "grüße".encode()) == CloseFrame(code, "grüße")
    assert decode_close(struct.pack(">H", code)) == CloseFrame(code, None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_invalid_close_codes(code: int) -> None:
    assert decode_close(struct.pack(">H", code)) == Violation(1002, f"close code {code} is not valid")


def test_other_close_payloads() -> None:
    assert decode_close(b"") == CloseFrame(None, None)
    assert decode_close(b"\x03") == Violation(1002, "close frame of one byte")
    assert decode_close(b"\x03\xe8\xff") == Violation(1007, "close reason is not UTF-8")


def test_a_close_payload_always_fits_a_control_frame() -> None:
    assert encode_close(None, None) == b""
    assert encode_close(None, "why") == b"\x03\xe8why"
    assert encode_close(4409, None) == b"\x11\x39"
    long = encode_close(1008, "ü" * 100)
    assert (len(long), decode_close(long)) == (124, CloseFrame(1008, "ü" * 61))


def test_masks_differ_per_frame() -> None:
    stream = client_frame(FINAL | TEXT, b"abcdef", mask=MASK) + client_frame(FINAL | TEXT, b"abcdef", mask=b"\0\1\2\3")
    assert read(stream)[0] == [(TEXT, b"abcdef")] * 2


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_a_message_is_in_a_bounded_number_of_pieces(piece: bytes) -> None:
    most = MIN_FRAGMENTS + LIMIT // BYTES_PER_FRAGMENT
    begun = client_frame(TEXT, b"") + client_frame(CONTINUATION, piece) * most
    end = client_frame(FINAL | CONTINUATION, piece)
    assert read(begun + end) == ([(TEXT, piece * (most + 1))], None)
    frames, violation = read(begun + client_frame(CONTINUATION, piece) + end)
    assert frames == []
    assert violation is not None
    assert violation.code == POLICY
    again = begun + end
    assert read(again + again)[1] is None, "each message has its own pieces"


def test_who_is_inside_a_message_is_so_under_one_number_until_it_ends() -> None:
    reader = parser()
    assert reader.unfinished == 0
    numbers = []
    for frame in (client_frame(FINAL | TEXT, b"y" * 300), client_frame(FINAL | TEXT, b"z" * 5)):
        during = set()
        for byte in frame[:-1]:
            assert reader.feed(bytes([byte])) == []
            during.add(reader.unfinished)
        assert len(during) == 1
        numbers += during
        assert reader.feed(frame[-1:]) != []
        assert reader.unfinished == 0
    assert 0 not in numbers
    assert len(set(numbers)) == 2


def test_control_frames_do_not_end_the_message_around_them() -> None:
    reader = parser()
    reader.feed(client_frame(TEXT, b"a"))
    number = reader.unfinished
    assert number
    for chunk in (client_frame(FINAL | PING), client_frame(CONTINUATION), client_frame(FINAL | PONG)[:3]):
        reader.feed(chunk)
        assert reader.unfinished == number


def test_messages_that_follow_each_other_in_pieces_have_numbers_of_their_own() -> None:
    frame = client_frame(FINAL | TEXT, b"x" * 10)
    reader, numbers = parser(), []
    reader.feed(frame[:4])
    for _ in range(3):
        numbers.append(reader.unfinished)
        reader.feed(frame[4:] + frame[:4])
    assert len(set(numbers)) == 3
