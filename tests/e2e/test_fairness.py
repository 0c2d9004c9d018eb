"""Greedy devices and modest ones on a gateway whose disk is too slow for all of them: the modest notice nothing."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

from tests.support.device import answer, device, hello
from tests.support.disk import slow_calls
from tests.support.flood import Flooder, flooding
from tests.support.gateway import running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.sync.client import ClientConnection

    from tests.support.gateway import RunningGateway

GREEDY, GREEDY_MESSAGES = 5, 100
MODEST, MODEST_MESSAGES = 3, 120
SYNC_SECONDS = 0.2
"""A greedy device has sent what there is room for in a fraction of it."""
PACE = 0.01
"""Between the messages of a modest device, which sends twenty of them while the disk syncs once."""
MOST_ACKS = 5
"""A device has one ack for each commit. A message that is read as it comes is in the next one, so its ack is the second
or third from then on; one that waits in a line of all who send falls further behind from commit to commit."""
CONFIG = {
    "spool": {"max_bytes": "64MiB", "keep_delivered": "0s"},
    "limits": {"max_unacked": 100_000},
}


class Modest:
    """A device that sends small messages at its pace, and counts the acks that come between a message and its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waited: list[int] = []
        self.others: list[str] = []
        self._acks_before: list[int] = []
        self._acks = 0

    def run(self, gateway: RunningGateway) -> None:
        with device(gateway, self.name, ping_interval=None) as socket:
            hello(socket, "b1")
            hearing = threading.Thread(target=self._hear, args=(socket,), daemon=True)
            hearing.start()
            for seq in range(MODEST_MESSAGES):
                self._acks_before.append(self._acks)
                socket.send(json.dumps({"seq": seq, "values": {"n": seq}}))
                time.sleep(PACE)
            hearing.join(30)

    def _hear(self, socket: ClientConnection) -> None:
        while len(self.waited) < MODEST_MESSAGES:
            said = answer(socket)
            if said["type"] != "ack":
                self.others.append(said["type"])
                continue
            self._acks += 1
            covered = self._acks_before[len(self.waited) : said["seq"] + 1]
            self.waited += [self._acks - before for before in covered]


def run(gateway: RunningGateway, modest: list[Modest]) -> None:
    threads = [threading.Thread(target=one.run, args=(gateway,), daemon=True) for one in modest]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_modest_devices_are_acknowledged_while_greedy_ones_have_more_than_the_disk_takes(tmp_path: Path) -> None:
    greedy = [Flooder(f"greedy-{n}", GREEDY_MESSAGES, 50, 1000) for n in range(GREEDY)]
    modest = [Modest(f"modest-{n}") for n in range(MODEST)]
    with running_gateway(tmp_path, CONFIG) as gateway:
        with contextlib.ExitStack() as slow:
            slow.enter_context(slow_calls(gateway.process.pid, "fdatasync", SYNC_SECONDS, tmp_path))
            with flooding(gateway, greedy, 60):
                wait_for(lambda: gateway.metric("gateway_connections_paused") > 0, "greedy devices not to be read")
                run(gateway, modest)
                left = [one.messages - 1 - one.acked_to for one in greedy]
                slow.close()
        print(f"acks until its own: {[max(one.waited) for one in modest]}; messages left of greedy ones: {left}")
        assert gateway.metric("gateway_reads_paused_total") > GREEDY
        assert sum(left) > 0, "the greedy were done first"
        for one in modest:
            assert one.others == []
            assert len(one.waited) == MODEST_MESSAGES
            assert max(one.waited) <= MOST_ACKS
            assert gateway.settled(one.name)["stored"] == MODEST_MESSAGES
