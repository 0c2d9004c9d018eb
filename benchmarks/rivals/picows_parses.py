"""The floor: picows on uvloop takes every frame apart and does nothing with it. ``picows_parses.py PORT``."""

from __future__ import annotations

import sys

import picows
import uvloop


class Stream(picows.WSListener):
    count = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            frame.get_payload_as_utf8_text()
            Stream.count += 1


def route(_: picows.WSUpgradeRequest) -> Stream:
    return Stream()


async def main(port: int) -> None:
    server = await picows.ws_create_server(route, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
