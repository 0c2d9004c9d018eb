"""Streams of frames as a client may send them, with what they say, for hypothesis."""

from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import strategies as st

from tests.support.streams import client_frame

FINAL, COMPRESSED = 0x80, 0x40
CONTINUATION, TEXT, BINARY, PING, PONG = 0x0, 0x1, 0x2, 0x9, 0xA

Said = list[tuple[int, bytes]]
"""(opcode, payload) of each message and control frame, in order."""


def deflate(payload: bytes) -> bytes:
    """One message for permessage-deflate (RFC 7692, 7.2.1), without any earlier one as context."""
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@st.composite
def legal_streams(draw: st.DrawFn, *, compression: bool = False) -> tuple[bytes, Said]:
    """A stream and what it says.

    With ``compression`` some messages are compressed; these have no control frames inside, because stock Tornado,
    which some tests compare with, loses such messages.
    """
    stream, said = bytearray(), []
    texts = st.text(max_size=100).map(str.encode)
    binaries = st.binary(max_size=300) | st.integers(65530, 65536).map(bytes)
    masks = st.binary(min_size=4, max_size=4)

    def control() -> None:
        opcode, payload = draw(st.sampled_from((PING, PONG))), draw(st.binary(max_size=125))
        stream.extend(client_frame(FINAL | opcode, payload, mask=draw(masks)))
        said.append((opcode, payload))

    for _ in range(draw(st.integers(0, 6))):
        opcode = draw(st.sampled_from((TEXT, BINARY)))
        message = draw(texts if opcode == TEXT else binaries)
        compressed = compression and draw(st.booleans())
        payload = deflate(message) if compressed else message
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        edges = list(pairwise([0, *cuts, len(payload)]))
        for index, (start, stop) in enumerate(edges):
            if not compressed and draw(st.booleans()):
                control()
            kind = CONTINUATION if index else opcode | COMPRESSED * compressed
            last = FINAL * (index == len(edges) - 1)
            stream += client_frame(last | kind, payload[start:stop], mask=draw(masks))
        said.append((opcode, message))
    return bytes(stream), said


def chunked(stream: bytes) -> st.SearchStrategy[list[bytes]]:
    """``stream`` cut anywhere."""
    cuts = st.lists(st.integers(0, len(stream)), max_size=20)
    return cuts.map(lambda at: [stream[a:b] for a, b in pairwise([0, *sorted(at), len(stream)])])
