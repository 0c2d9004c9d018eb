"""Pictures of every view, in both themes and at a phone's width: ``python -m tests.e2e.screenshots DIRECTORY``.

They show a small factory: rooms, vehicles, fields and presses from the simulator, a greenhouse with a week of history
that is refused a value now and then, and two devices that hang. Look at them before a change of the page is done.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.browser import browser
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.page import Page
from tests.support.simulator import simulate
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

ADMIN = "admin-token-for-tests-0123456789"
MINUTE_MS = 60_000
HISTORY_MINUTES = 7 * 24 * 60
OUTAGE = range(2 * 24 * 60, 2 * 24 * 60 + 200)
"""Minutes before now without data."""
GREENHOUSE = "greenhouse-7"
HANG_AFTER_SECONDS = 20
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
VIEWS = {
    "device": f"#/devices/{GREENHOUSE}?range=24h",
    "device-week": f"#/devices/{GREENHOUSE}?range=7d",
    "device-live": "#/devices/press-2?range=5m",
    "device-unknown": "#/devices/nobody",
    "health": "#/health",
    "connect": "#/connect",
    "fleet": "#/",
}
ADMINS_VIEWS = {
    "commands": "#/devices/press-2?tab=commands",
    "commands-away": "#/devices/gate-1?tab=commands",
    "settings": f"#/devices/{GREENHOUSE}?tab=settings",
}
GROUPS = {"room": ("climate", 60), "truck": ("tracker", 20), "field": ("logger", 5), "press": ("machine", 5)}
COMMANDS = {
    "machine": {
        "restart": {"value": {"uptime_s": 0, "firmware": "2.4.1"}, "delay": "800ms"},
        "calibrate": {"error": "the probe is not in its holder"},
        "selftest": {"silent": True},
    }
}
"""What devices of a kind answer to commands."""
REPORTED = {"firmware": "2.4.1", "interval_s": 60, "fan": {"on_at": 28, "off_at": 26}, "led": False}
DESIRED = {"interval_s": 30, "fan": {"on_at": 28, "off_at": 25}, "led": False, "note": "north side, second shelf"}
ASKING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("kiln-7", {"claim": "K7QD-93XA", "info": {"model": "KL-2", "firmware": "1.0.3"}}),
    ("oven-1", {"info": {"model": "OV-9"}}),
    ("twin", {"claim": "TW1N-0001", "secret": "a" * 24}),
    ("twin", {"claim": "TW1N-0001", "secret": "b" * 24}),
)
"""New devices; the last one shows the claim of the one before."""
UNITS = {
    "temp": "°C",
    "hum": "%",
    "co2": "ppm",
    "battery": "%",
    "speed": "km/h",
    "volts": "V",
    "x": "g",
    "y": "g",
    "z": "g",
}


def values(minute: float) -> dict[str, float]:
    """What the greenhouse measures so many minutes before now."""
    day = math.cos(2 * math.pi * (minute / 1440 - 0.4))
    return {
        "temp": round(19 + 5 * day + random.gauss(0, 0.25), 2),
        "hum": round(64 - 12 * day + random.gauss(0, 0.8), 1),
        "co2": round(520 - 110 * day + random.gauss(0, 14)),
    }


def backfill(gateway: RunningGateway) -> None:
    """A week of the greenhouse, a reading a minute, with an outage."""
    now = round(time.time() * 1000)
    minutes = [minute for minute in range(HISTORY_MINUTES, 0, -1) if minute not in OUTAGE]
    for start in range(0, len(minutes), 500):
        part = minutes[start : start + 500]
        body = json.dumps([{"ts": now - minute * MINUTE_MS, "values": values(minute)} for minute in part])
        status, answer = gateway.request(f"/v1/devices/{GREENHOUSE}/readings", body=body.encode())
        assert status == 200, answer


def backfill_trends(gateway: RunningGateway) -> None:
    """A quarter of an hour of every device's values, so that its small curve is one."""
    now = round(time.time() * 1000)
    for device in gateway.request("/v1/devices?limit=1000")[1]["devices"]:
        latest = {name: value for name, value in device["latest"].items() if isinstance(value, float)}
        drift = {name: random.gauss(0, 0.02) for name in latest}
        readings = [
            {
                "ts": now - ago * 1000,
                "values": {name: value * (1 + wave(drift[name], ago)) for name, value in latest.items()},
            }
            for ago in range(900, 10, -15)
        ]
        if latest and device["id"] != GREENHOUSE:
            gateway.request(f"/v1/devices/{device['id']}/readings", body=json.dumps(readings).encode())


def wave(drift: float, ago: float) -> float:
    """How far a value was from what it is now."""
    return drift * math.sin(ago / 150) + drift * ago / 900 + random.gauss(0, 0.001)


def read_acks(socket: ClientConnection) -> None:
    """Read what the gateway answers, until it ends."""
    with contextlib.suppress(ConnectionClosed):
        deque(socket, maxlen=0)


def live_greenhouse(gateway: RunningGateway, ended: threading.Event) -> None:
    """Send what the greenhouse measures now, each second, and now and then something to be refused."""
    stream = f"{gateway.ws}/v1/devices/{GREENHOUSE}/stream"
    with contextlib.suppress(ConnectionClosed), connect(stream) as socket:  # the gateway is killed in the end
        threading.Thread(target=read_acks, args=(socket,)).start()
        socket.send(json.dumps({"type": "hello", "boot": "b7", "info": {"model": "GH-200", "firmware": "2.4.1"}}))
        socket.send(json.dumps({"type": "reported", "settings": REPORTED}))
        for seq in range(1_000_000):
            broken = {"temp": "n/a"} if seq % 40 == 7 else values(0)
            socket.send(json.dumps({"seq": seq, "ts": time.time(), "values": broken}))
            if ended.wait(1):
                return


@contextlib.contextmanager
def factory(directory: Path) -> Iterator[RunningGateway]:
    """The gateway with its devices, running until the block ends."""
    fields: dict[str, Any] = {name: {"type": "float", "unit": unit} for name, unit in UNITS.items()}
    over = {"keepalive": {"ping_interval": "20s", "timeout": "30s"}, "profiles": {"default": {"fields": fields}}}
    ended = threading.Event()
    with running_gateway(directory / "gateway", over) as gateway, contextlib.ExitStack() as stack:
        backfill(gateway)
        for name, (kind, count) in GROUPS.items():
            stack.enter_context(group(directory / name, gateway, name, kind, count))
        hanging = stack.enter_context(group(directory / "hanging", gateway, "gate", "climate", 2))
        greenhouse = threading.Thread(target=live_greenhouse, args=(gateway, ended))
        greenhouse.start()
        stack.callback(greenhouse.join)
        stack.callback(ended.set)
        known = sum(count for _, count in GROUPS.values()) + 3
        wait_for(lambda: gateway.metric("gateway_connections") == known, "all devices")
        wait_for(lambda: all_sent(gateway), "their first readings")
        backfill_trends(gateway)
        threading.Timer(HANG_AFTER_SECONDS, lambda: hanging.process.send_signal(signal.SIGSTOP)).start()
        yield gateway


def all_sent(gateway: RunningGateway) -> bool:
    """Whether every device has sent something."""
    return all(device["latest"] for device in gateway.request("/v1/devices?limit=1000")[1]["devices"])


def group(directory: Path, gateway: RunningGateway, name: str, kind: str, count: int) -> Any:
    """Simulated devices called NAME-1 and so on."""
    directory.mkdir()
    scenario, tokens = directory / "scenario.yaml", directory / "tokens.csv"
    scenario.write_text(
        json.dumps({"groups": [{"name": name, "kind": kind, "count": count, "commands": COMMANDS.get(kind, {})}]})
    )
    tokens.write_text("".join(f"{name}-{n},none\n" for n in range(1, count + 1)))
    options = ("--url", gateway.ws, "--scenario", str(scenario), "--tokens", str(tokens), "--quiet")
    return simulate(directory, "run", *options)


def admin(gateway: RunningGateway, method: str, path: str, **body: Any) -> None:
    """A request of an administrator."""
    Visitor(gateway.url).send(method, path, body, Authorization=f"Bearer {ADMIN}")


def control(gateway: RunningGateway) -> None:
    """Send commands and settings, with every outcome that they can have."""
    for name, more in (
        ("restart", {"params": {"delay_s": 3}}),
        ("calibrate", {"params": {"sensor": "temp", "reference": 21.5}}),
        ("selftest", {"timeout_ms": 300}),
        ("ping", {}),
        ("selftest", {"keep": True}),
    ):
        admin(gateway, "POST", "/v1/devices/press-2/commands", name=name, **more)
    admin(gateway, "POST", "/v1/devices/gate-1/commands", name="open", keep=True)
    admin(gateway, "PUT", f"/v1/devices/{GREENHOUSE}/settings", settings=DESIRED)


def settle(page: Page) -> None:
    """Wait until the view shows what it is going to show."""
    wait_for(lambda: page.text("#feed") == "Live", "the feed")
    wait_for(lambda: not page.script("return document.querySelector('.placeholder.loading, [aria-busy=true]')"), "data")
    page.driver.execute_async_script("setTimeout(arguments[0], 2500)")  # for the totals, curves and pictures


def take(page: Page, directory: Path, name: str) -> None:
    """A picture of each theme and size of what is open."""
    for size, (width, height) in SIZES.items():
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for theme in ("light", "dark"):
            scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
            page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
            page.driver.execute_async_script("setTimeout(arguments[0], 300)")
            whole = page.script("return document.documentElement.scrollHeight") if name != "fleet" else height
            tall = {**metrics, "height": min(max(height, whole), 2400)}
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", tall)
            page.driver.execute_async_script("setTimeout(arguments[0], 300)")
            page.driver.save_screenshot(str(directory / f"{name}-{size}-{theme}.png"))
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def main(directory: Path) -> None:
    """Take all pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, browser(Path(temporary) / "profile") as driver:
        with factory(Path(temporary)) as gateway:
            page = Page(driver, gateway.url)
            for name, view in VIEWS.items():
                page.open(view)
                settle(page)
                if name == "fleet":
                    page.click('[data-sort="state"]')  # devices that hang come first
                take(page, directory, name)
            page.click("#account")
            take(page, directory, "login")
            page.log_in(ADMIN)
            page.go("#/connect")
            page.type(".register input", "greenhouse-8")
            page.click(".register button")
            settle(page)
            take(page, directory, "connect-admin")
            control(gateway)
            for name, view in ADMINS_VIEWS.items():
                page.open(view)
                settle(page)
                if name == "commands-away":
                    page.type("form.command textarea", '{"door": 2')
                    page.type("form.command input", "open")
                take(page, directory, name)
            page.open("#/")
            settle(page)
            gateway.stop(signal.SIGKILL)
            wait_for(lambda: page.text("#notice"), "the notice")
            take(page, directory, "disconnected")
        asking = {"auth": {"mode": "token", "enrol": "approve"}}
        with running_gateway(Path(temporary) / "empty", asking) as gateway, contextlib.ExitStack() as stack:
            page = Page(driver, gateway.url)
            page.open("#/")
            settle(page)
            take(page, directory, "empty")
            admin(gateway, "POST", "/v1/devices", id="oven-1")
            for device, hello in ASKING:
                socket = stack.enter_context(connect(f"{gateway.ws}/v1/devices/{device}/stream"))
                socket.send(json.dumps({"type": "hello", **hello}))
                with contextlib.suppress(ConnectionClosed):  # with the claim of another
                    socket.recv()
            page.click("#account")
            page.log_in(ADMIN)
            settle(page)
            page.wait_text(".pending .badge", "3")
            page.script("document.querySelector('.pending details').open = true")  # a phone begins with it closed
            take(page, directory, "pending")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
