"""Clients that know nothing of this project: PyPI websockets, npm ws, and the browser's own WebSocket."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import connect

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


PAGE = """<!doctype html><title>waiting</title><script>
const socket = new WebSocket(%(url)s, ["telemetry.v1.json"]);
const last = %(messages)d - 1;
socket.onmessage = (event) => {
  const message = JSON.parse(event.data);
  if (message.type === "welcome")
    for (let n = 0; n <= last; n++)
      socket.send(JSON.stringify({ seq: n, ts: 1700000000000 + n, values: { n } }));
  else if (message.type === "ack" && message.seq === last) socket.close(1000);
  else if (message.type !== "ack") document.title = "unexpected " + event.data;
};
socket.onclose = (event) => { document.body.textContent = "closed " + event.code; };
</script><body>waiting</body>"""


@pytest.mark.server
def test_the_browsers_own_websocket(gateway: RunningGateway, tmp_path: Path) -> None:
    chromium = binary("chromium", "chromium")
    page = tmp_path / "page.html"
    url = json.dumps(f"{gateway.ws}/v1/devices/browser-1/stream")
    page.write_text(PAGE % {"url": url, "messages": MESSAGES})
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
    assert "closed 1000" in done.stdout, done.stdout + done.stderr[-2000:]
    assert_all_stored(gateway, "browser-1")
