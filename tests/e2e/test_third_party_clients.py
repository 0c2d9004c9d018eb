"""Clients that know nothing of this project: PyPI websockets, npm ws, and the browser's own WebSocket."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from websockets.sync.client import connect

from tests.support.browser import browser
from tests.support.gateway import running_gateway
from tests.support.servers import binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.gateway import RunningGateway

MESSAGES = 200


def stored_values(gateway: RunningGateway, device: str, field: str) -> list[float]:
    """What the database holds for one series, by time."""
    with sqlite3.connect(f"file:{gateway.directory}/data.db?mode=ro", uri=True) as database:
        rows = database.execute(
            "select value from readings where device = ? and field = ? order by time_ns", (device, field)
        ).fetchall()
    database.close()
    return [row[0] for row in rows]


def assert_all_stored(gateway: RunningGateway, device: str) -> None:
    sums = gateway.settled(device)
    assert sums["stored"] == MESSAGES
    assert sums["duplicate"] == sums["rejected"] == sums["gaps"] == 0
    assert stored_values(gateway, device, "n") == list(range(MESSAGES))


def test_python_websockets(gateway: RunningGateway) -> None:
    url = f"{gateway.ws}/v1/devices/py-1/stream"
    with connect(url, subprotocols=["telemetry.v1.json"]) as socket:  # type: ignore[list-item]
        assert json.loads(socket.recv(timeout=10))["type"] == "welcome"
        assert socket.subprotocol == "telemetry.v1.json"
        for number in range(MESSAGES):
            socket.send(json.dumps({"seq": number, "ts": 1_700_000_000_000 + number, "values": {"n": number}}))
        acked = -1
        while acked < MESSAGES - 1:
            answer = json.loads(socket.recv(timeout=10))
            assert answer["type"] == "ack"
            assert answer["seq"] > acked
            acked = answer["seq"]
    assert_all_stored(gateway, "py-1")


NODE_CLIENT = """
const WebSocket = require('ws');
const socket = new WebSocket(process.argv[2], 'telemetry.v1.json');
const last = Number(process.argv[3]) - 1;
socket.on('message', (data) => {
  const message = JSON.parse(data);
  if (message.type === 'welcome')
    for (let n = 0; n <= last; n++)
      socket.send(JSON.stringify({ seq: n, ts: 1700000000000 + n, values: { n } }));
  else if (message.type === 'ack') { if (message.seq === last) socket.close(1000); }
  else { console.error(String(data)); process.exit(1); }
});
socket.on('close', (code) => process.exit(code === 1000 ? 0 : 1));
socket.on('error', (error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.server
def test_node_ws(gateway: RunningGateway, tmp_path: Path) -> None:
    node, npm = binary("node", "nodejs"), binary("npm", "npm")
    (tmp_path / "client.js").write_text(NODE_CLIENT)
    subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", "ws"], cwd=tmp_path, check=True, timeout=120)
    url = f"{gateway.ws}/v1/devices/node-1/stream"
    done = subprocess.run(
        [node, "client.js", url, str(MESSAGES)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_all_stored(gateway, "node-1")


PAGE = """<!doctype html><meta charset="utf-8"><title>waiting</title><script>
const socket = new WebSocket(%(url)s, ["telemetry.v1.json"]);
const last = %(messages)d - 1;
socket.onmessage = (event) => {
  const message = JSON.parse(event.data);
  if (message.type === "welcome")
    for (let n = 0; n <= last; n++)
      socket.send(JSON.stringify({ seq: n, ts: 1700000000000 + n, values: { n } }));
  else if (message.type === "ack") { if (message.seq === last) socket.close(1000); }
  else document.title = "unexpected " + event.data;
};
socket.onclose = (event) => { document.title = "closed " + event.code; };
</script>"""


@pytest.mark.server
def test_the_browsers_own_websocket(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    open_to_files = {"server": {"allowed_origins": ["*"]}}
    with running_gateway(tmp_path, open_to_files) as gateway, browser(tmp_path / "profile") as driver:
        url = json.dumps(f"{gateway.ws}/v1/devices/browser-1/stream")
        page.write_text(PAGE % {"url": url, "messages": MESSAGES})
        driver.get(page.as_uri())
        WebDriverWait(driver, 30).until(lambda d: d.title != "waiting")
        assert driver.title == "closed 1000"
        assert_all_stored(gateway, "browser-1")
