"""The floor of whatever acknowledges: picows on uvloop takes every frame apart, keeps nothing, and every 5 ms sends an
ack to each device that has sent. ``picows_acks.py PORT [CERTIFICATE KEY]``."""

from __future__ import annotations

import asyncio
import ssl
import sys

import picows
import uvloop

INTERVAL = 0.005
"""Seconds from the first message to the acks: the gateway's between two commits."""


class Acks:
    """The devices that have sent since the last acks, which go out one straight after the other."""

    def __init__(self) -> None:
        self._owed: dict[Stream, None] = {}

    def owe(self, stream: Stream) -> None:
        if not self._owed:
            asyncio.get_running_loop().call_later(INTERVAL, self._write)
        self._owed[stream] = None

    def _write(self) -> None:
        owed, self._owed = self._owed, {}
        for stream in owed:
            stream.acknowledge()


class Stream(picows.WSListener):
    def __init__(self, acks: Acks) -> None:
        self._acks = acks
        self._seq = -1

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        transport.send(picows.WSMsgType.TEXT, b'{"type":"welcome"}')

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            frame.get_payload_as_utf8_text()
            self._seq += 1
            self._acks.owe(self)

    def acknowledge(self) -> None:
        self._transport.send(picows.WSMsgType.TEXT, b'{"type":"ack","seq":%d}' % self._seq)


async def main(port: int, *tls: str) -> None:
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    acks = Acks()

    def route(_: picows.WSUpgradeRequest) -> Stream:
        return Stream(acks)

    server = await picows.ws_create_server(route, "127.0.0.1", port, backlog=4096, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
