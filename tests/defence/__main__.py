"""``python -m tests.defence``: a fleet of attackers runs each attack, and good devices must lose nothing.

A gateway, good devices (`devices-sim`) at it all the while, and ``--sockets`` attackers: some at the address of the
good devices, most at other loopback addresses. At the end every reading that was acknowledged has to be in the
database, no good device may have had to connect again, and the gateway may not have grown beyond `MAX_GROWTH`: exit
code 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.machine import allow_many_sockets
from tests.defence.attacks import ATTACKS
from tests.defence.siege import attack, enlist
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.defence.attacks import Rogue
    from tests.defence.siege import AttackResult

CONFIG = {
    "auth": {"mode": "token", "viewer_token": "viewer-token-for-tests-0123456789"},
    "profiles": {"default": {"allowed_tags": ["batch"]}},
}
CONNECT_SECONDS = 30
LAST_SECONDS = 120
MAX_GROWTH = 2 * 1024**3
"""Bytes by which the gateway's memory may grow. With 5,000 attackers, a minute of each attack, it was 1,144 MiB:
what attackers with tokens may make it keep, each within its own bounds. Nearly twice as much leaves room for how runs
differ; another 190 KiB kept for each of them does not fit."""


def memory(gateway: RunningGateway, what: str) -> int:
    """Bytes of the gateway's memory: VmRSS now, VmHWM at most."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def besiege(
    gateway: RunningGateway, names: Sequence[str], rogues: Sequence[Rogue], seconds: float
) -> list[tuple[AttackResult, int]]:
    """Run the attacks in turn, and note the gateway's memory after each. The gateway has to survive each."""
    address = urllib.parse.urlsplit(gateway.url)
    found = []
    for name in names:
        outcome = asyncio.run(attack(name, (str(address.hostname), int(address.port or 0)), rogues, seconds))
        assert gateway.request("/healthz")[0] == 200
        found.append((outcome, memory(gateway, "VmRSS")))
        _tell(outcome, found[-1][1], gateway.metric("gateway_event_loop_lag_seconds"))
    return found


def _tell(outcome: AttackResult, rss: int, lag: float) -> None:
    endings = ", ".join(f"{how} {count}" for how, count in outcome.endings.most_common(5))
    print(
        f"{outcome.name:16} {outcome.made:7} connections, {outcome.most:5} at once;"
        f" {rss >> 20:4} MiB, lag {lag * 1000:5.0f} ms; {endings}",
        flush=True,
    )


def siege(directory: Path, names: Sequence[str], *, good: int, sockets: int, seconds: float) -> dict[str, Any]:
    """Run a siege. Returns the report of the good devices and the contents of the database."""
    tokens, rogues = enlist(directory / "state", good, sockets)
    with running_gateway(directory, CONFIG) as gateway:
        options = ("--url", gateway.ws, "--tokens", str(tokens), "--interval", "1s", "--grace", "30s", "--quiet")
        with simulate(directory, "run", *options) as simulation:
            accepted = 'gateway_connections_total{result="accepted"}'
            wait_for(lambda: gateway.metric(accepted) >= good, "the good devices", CONNECT_SECONDS)
            before = memory(gateway, "VmRSS")
            _tell_start(good, sockets, before)
            found = besiege(gateway, names, rogues, seconds)
            simulation.end_readings()
            report = simulation.finish(LAST_SECONDS)
        wait_for(lambda: gateway.pending() == 0, "everything to be delivered", LAST_SECONDS)
        verified = verify(simulation.report, f"sqlite:{directory / 'data.db'}")
        log = gateway.log
        assert gateway.stop() == 0
    most = max(rss for _, rss in found)
    return {"summary": report["summary"], "verified": verified, "grown": most - before, "outcomes": found, "log": log}


def _tell_start(good: int, sockets: int, rss: int) -> None:
    print(f"{good} good devices, {sockets} attackers; {rss >> 20} MiB", flush=True)


def complaints(found: dict[str, Any], good: int) -> list[str]:
    """The failures of a siege that lost nothing (a loss has ended it already)."""
    wrong = []
    if (connects := found["summary"]["connects"]) != good:
        wrong.append(f"{good} good devices connected {connects} times")
    if found["grown"] > MAX_GROWTH:
        wrong.append(f"the gateway grew by {found['grown'] >> 20} MiB, which may be {MAX_GROWTH >> 20}")
    return wrong


def main() -> int:
    """Run a siege and print the result. Returns 1 if good devices noticed it or it cost too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.defence", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sockets", type=int, default=5000, help="attackers")
    parser.add_argument("--devices", type=int, default=200, help="good devices, a message a second each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack")
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="only this one; may be given several times")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    allow_many_sockets()
    with tempfile.TemporaryDirectory(prefix="gateway-siege-", dir=options.directory) as scratch:
        start = time.monotonic()
        found = siege(
            Path(scratch),
            options.attack or list(ATTACKS),
            good=options.devices,
            sockets=options.sockets,
            seconds=options.seconds,
        )
        print(f"{time.monotonic() - start:.0f} s, the gateway grew by {found['grown'] >> 20} MiB")
        print("good devices:", found["summary"])
        print("database:", found["verified"])
    wrong = complaints(found, options.devices)
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
