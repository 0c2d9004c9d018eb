"""The programs of README and of the guides, as they stand there, against a real gateway that asks for tokens."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.support import modes
from tests.support.authority import client
from tests.support.gateway import running_gateway, wait_for
from tests.support.servers import binary, free_port

if TYPE_CHECKING:
    from tests.support.gateway import RunningGateway

pytestmark = pytest.mark.skipif(modes.TLS, reason="the programs of the guides speak ws:// and http://")
ROOT = Path(__file__).parents[2]
DEVICE = "greenhouse-7"


def program(document: str, kind: str, gateway: RunningGateway, token: str) -> str:
    """The first fenced block of that kind which names the device, with this gateway's address and the token."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    text: str = next(block for block in blocks if f"/{DEVICE}/" in block)
    text = text.replace("127.0.0.1:8080", gateway.url.removeprefix("http://"))
    return re.sub(r'(?<=Bearer )TOKEN|(?<=^TOKEN = ")TOKEN', token, text, flags=re.MULTILINE)


def registered(gateway: RunningGateway) -> str:
    done = gateway.cli("devices", "add", DEVICE)
    assert done.returncode == 0, done.stderr
    time.sleep(1)  # a running gateway knows new devices after half a second
    return done.stdout.strip()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_readme_are_acknowledged(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {"auth": {"mode": "token"}}) as gateway:
        token = registered(gateway)
        said = run(sys.executable, "-c", program("README.md", "python", gateway, token))
        assert said.splitlines()[-1] == '{"type":"ack","seq":9}'
        assert run("bash", "-c", program("README.md", "sh", gateway, token)) == '{"accepted":1,"rejected":[]}'
        assert gateway.settled(DEVICE)["stored"] == 11


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_device_of_the_tutorial_loses_nothing_by_a_restart(number: int, tmp_path: Path) -> None:
    over: dict[str, Any] = {"auth": {"mode": "token"}, "server": {"listen": f"127.0.0.1:{free_port()}"}}
    with running_gateway(tmp_path, over) as gateway:
        device = program("docs/tutorial/first-device.md", "python", gateway, registered(gateway))
        process = subprocess.Popen([sys.executable, "-c", device.replace("sleep(1)", "sleep(0.1)")])
        try:
            wait_for(lambda: stored(gateway) >= 5, "five readings")
            gateway.stop(number)
            time.sleep(1)
            with running_gateway(tmp_path, over) as again:
                before = again.ledger(DEVICE)["received"]
                wait_for(lambda: stored(again) >= before + 20, "those of the restart, and more")
                sums = again.ledger(DEVICE)
                assert (sums["gaps"], sums["rejected"], sums["dropped"]) == (0, 0, 0)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


def stored(gateway: RunningGateway) -> int:
    status, body = gateway.request(f"/v1/devices/{DEVICE}")
    return int(body["ledger"]["stored"]) if status == 200 else 0


def test_the_certificates_of_the_guide_are_those_that_gateway_and_devices_trust(tmp_path: Path) -> None:
    binary("openssl", "openssl")
    lines = "".join(
        re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/how-to/tls.md").read_text(), re.MULTILINE | re.DOTALL)
    )
    make = "\n".join(re.findall(r"^openssl .*?[^\\]$", lines, re.MULTILINE | re.DOTALL))
    subprocess.run(["bash", "-ec", make], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    files = {"certificate": "gateway.pem", "key": "gateway.key", "client_ca": "authority.pem"}
    over = {"auth": {"mode": "token"}, "server": {"tls": {name: str(tmp_path / file) for name, file in files.items()}}}
    with running_gateway(tmp_path / "gateway", over) as gateway:
        assert gateway.cli("devices", "add", "kiln-7").returncode == 0
        time.sleep(1)
        asks = re.findall(
            r"^curl .*?[^\\]$", lines.replace("https://127.0.0.1:8080", gateway.url), re.MULTILINE | re.DOTALL
        )
        said = [subprocess.check_output(["bash", "-c", ask], cwd=tmp_path, text=True, timeout=30) for ask in asks]
        assert said == ['{"status":"alive"}', '{"accepted":1,"rejected":[]}']
        tls = client(tmp_path / "authority.pem", (tmp_path / "kiln-7.pem", tmp_path / "kiln-7.key"))
        tls.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python has it from 3.13 on
        with connect(f"{gateway.ws}/v1/devices/kiln-7/stream", ssl=tls, compression=None) as device:
            assert '"welcome"' in str(device.recv(timeout=10))
