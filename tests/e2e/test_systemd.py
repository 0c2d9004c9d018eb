"""The service under a real systemd, by the commands of docs/how-to/systemd.md: installed, watched, restarted, removed.

The tests of this file are one story on one machine and run in order. The units themselves are judged first, by
`systemd-analyze`, which needs no machine.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.nspawn import Machine, booted, need_nspawn
from tests.support.servers import binary, unable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.systemd
ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
EXPOSURE = 1.5
"""What `systemd-analyze security` may give a service at most, of 10."""
SOURCE = "/usr/src/telemetry-gateway"
WHEELS = "/usr/src/wheels"
CONFIG = "/etc/telemetry-gateway/config.yaml"
DEVICES, SECONDS = 200, 8
ASK = """
import sys, urllib.request
url, body, token = (*sys.argv[1:], None, None)[:3]
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
request = urllib.request.Request(url, body and body.encode(), headers)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELS,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def analyze(*arguments: str) -> str:
    command = [binary("systemd-analyze", "systemd"), "--no-pager", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """Each with a program that exists here in place of the installed one, which `verify` looks for."""
    for unit in UNITS:
        here = unit.read_text().replace("/opt/telemetry-gateway/bin/", "/bin/true ")
        (tmp_path / unit.name).write_text(here)
    assert analyze("verify", *(str(tmp_path / unit.name) for unit in UNITS)) == ""


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_is_well_confined(unit: Path) -> None:
    table = analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(unit))
    print(table.splitlines()[-1])


def commands(heading: str) -> str:
    """The blocks of commands under a heading of the guide."""
    part = (ROOT / "docs/how-to/systemd.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    assert found, heading
    return "".join(found)


class Service:
    """The machine, and what the tests ask of the service on it."""

    def __init__(self, machine: Machine) -> None:
        self.run = machine.run
        self.popen = machine.popen

    def follow(self, heading: str) -> str:
        """Do what the guide says, where it says to do it; only pip takes its packages from beside it."""
        return self.run(f"cd {SOURCE}\n{commands(heading)}", PIP, seconds=300)

    def show(self, name: str, unit: str = "telemetry-gateway.service") -> str:
        return self.run(f"systemctl show --property={name} --value {unit}")

    def get(self, path: str) -> str:
        return self.run(f"python3 -c {shlex.quote(ASK)} http://127.0.0.1:8080{path}")

    def post(self, path: str, body: str, token: str) -> str:
        return self.run(f"python3 -c {shlex.quote(ASK)} http://127.0.0.1:8080{path} {shlex.quote(body)} {token}")

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def journal(self) -> str:
        return self.run("journalctl --no-pager --output=cat --unit=telemetry-gateway.service --unit='devices-sim@*'")

    def override(self, text: str) -> None:
        """What `systemctl edit` does."""
        place = "/etc/systemd/system/telemetry-gateway.service.d"
        self.run(f"mkdir -p {place}; printf '{text}' > {place}/override.conf; systemctl daemon-reload")

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}\n{self.journal()[-3000:]}"
            time.sleep(0.1)


def download(directory: Path) -> None:
    """Put there what pip would fetch for an installation by Debian's Python: the machine has no network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["dependencies"]
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"], *build]
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, check=True).stdout
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
        "--python-version",
        version.strip(),
    ]
    done = subprocess.run([*pip, "--dest", str(directory), *needed], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unable(f"no real systemd was tried: its packages cannot be fetched: {done.stderr[-500:]}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    need_nspawn()
    wheels = tmp_path_factory.mktemp("wheels")
    download(wheels)
    scratch = tmp_path_factory.mktemp("machine") / "disk"
    with booted(scratch, f"--bind-ro={ROOT}:{SOURCE}", f"--bind-ro={wheels}:{WHEELS}") as machine:
        yield Service(machine)


def test_it_is_installed_by_the_steps_of_the_guide(service: Service) -> None:
    began = time.monotonic()
    service.follow("Install")
    print(f"\ninstalled and ready after {time.monotonic() - began:.1f} s")
    assert service.show("ActiveState") == service.show("ActiveState", "telemetry-gateway.socket") == "active"
    assert json.loads(service.get("/readyz"))["ready"]
    assert "0 devices" in service.show("StatusText")
    assert service.run("stat -c %U /proc/$(systemctl show -P MainPID telemetry-gateway.service)") != "root"
    assert service.run("systemd-analyze verify /etc/systemd/system/telemetry-gateway.* 2>&1") == ""


def test_it_is_handed_its_secrets(service: Service) -> None:
    service.follow("Secrets")
    token = service.run("cat /etc/credstore/telemetry-gateway.admin_token")
    place = "/run/credentials/telemetry-gateway.service/admin_token"
    assert service.run(f"cat {place}") == token
    assert "by-http" in service.post("/v1/devices", '{"id":"by-http"}', token)
    assert token not in service.journal()
    check = "/opt/telemetry-gateway/bin/gateway check-config --config /etc/telemetry-gateway/config.yaml"
    found = service.run(f"CREDENTIALS_DIRECTORY=/run/credentials/telemetry-gateway.service {check}")
    assert "credential admin_token" in found
    assert token not in found


def test_simulated_devices_run_beside_it(service: Service) -> None:
    service.follow("Try it with simulated devices")
    service.wait(lambda: service.metric("gateway_connections") == 3, "three devices")
    service.wait(lambda: service.metric("gateway_readings_stored_total") > 3, "their readings")
    service.run("systemctl stop devices-sim@bench")
    verify(service, "/var/lib/devices-sim/bench/report.json")


def test_a_renewed_certificate_is_served_after_a_reload(service: Service) -> None:
    key, certificate = "/etc/ssl/private/gateway.key", "/etc/ssl/gateway.pem"
    renew = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=gateway -days 1"
        f" -out {certificate} -keyout {key} 2>&1; chown root:ssl-cert {key}; chmod 640 {key}"
    )
    service.run(f"groupadd --force ssl-cert; install -d -m 710 -g ssl-cert /etc/ssl/private; {renew}")
    files = f"GATEWAY_SERVER__TLS__CERTIFICATE={certificate} GATEWAY_SERVER__TLS__KEY={key}"
    service.override(f"[Service]\\nSupplementaryGroups=ssl-cert\\nEnvironment={files}\\n")
    service.run("systemctl restart telemetry-gateway.service")
    ask = "import ssl; print(ssl.get_server_certificate(('127.0.0.1', 8080)))"
    process, before = service.show("MainPID"), service.run(f'python3 -c "{ask}"')
    service.run(f"{renew}; systemctl reload telemetry-gateway.service")
    service.wait(lambda: service.run(f'python3 -c "{ask}"') != before, "the new certificate")
    assert service.show("MainPID") == process
    service.override("")
    service.run("systemctl restart telemetry-gateway.service")


def test_it_listens_elsewhere_once_socket_and_configuration_say_so(service: Service) -> None:
    place = "/etc/systemd/system/telemetry-gateway.socket.d"
    text = "[Socket]\\nListenStream=\\nListenStream=0.0.0.0:8081\\n"
    service.run(f"mkdir -p {place}; printf '{text}' > {place}/override.conf; systemctl daemon-reload")
    service.run("systemctl restart --no-block telemetry-gateway.socket")
    service.wait(lambda: "give both the same address" in service.journal(), "the mistake to be told")
    service.run(f"sed -i 's/ listen: 127.0.0.1:8080/ listen: 0.0.0.0:8081/' {CONFIG}")
    service.wait(lambda: service.show("ActiveState") == "active", "the next attempt")
    service.run(f"python3 -c {shlex.quote(ASK)} http://127.0.0.1:8081/healthz")
    service.run(f"sed -i 's/ listen: 0.0.0.0:8081/ listen: 127.0.0.1:8080/' {CONFIG}; rm -r {place}")
    service.run("systemctl daemon-reload; systemctl restart telemetry-gateway.socket")
    service.wait(lambda: service.show("ActiveState") == "active", "the service where it was")
    assert json.loads(service.get("/readyz"))["ready"]


def verify(service: Service, report: str) -> None:
    service.wait(lambda: service.metric('gateway_ledger_readings{column="pending"}') == 0, "everything to be delivered")
    service.run(f"devices-sim verify --report {report} --database sqlite:/var/lib/telemetry-gateway/data/telemetry.db")


def test_a_stopped_event_loop_is_killed_and_started_again(service: Service) -> None:
    service.override("[Service]\\nWatchdogSec=2s\\n")
    service.run("systemctl restart telemetry-gateway.service")
    before = service.show("MainPID")
    service.run(f"kill -STOP {before}")
    service.wait(lambda: service.show("NRestarts") == "1" and service.show("ActiveState") == "active", "a new process")
    assert service.show("MainPID") != before
    assert json.loads(service.get("/readyz"))["ready"]
    journal = service.journal()
    assert "Watchdog timeout" in journal
    assert "most recent call first" in journal, "where it stood"


def test_a_restart_under_load_loses_nothing_and_refuses_no_device(service: Service) -> None:
    service.override("[Service]\\nEnvironment=GATEWAY_AUTH__MODE=open\\n")
    service.run("systemctl restart telemetry-gateway.service")
    options = f"--devices {DEVICES} --interval 1s --duration {SECONDS}s --report /tmp/report.json --quiet"
    with service.popen(f"devices-sim run {options}") as fleet:
        service.wait(lambda: service.metric("gateway_connections") == DEVICES, "all devices")
        service.run("systemctl restart telemetry-gateway.service")
        output, _ = fleet.communicate(timeout=SECONDS + 60)
    assert fleet.returncode == 0, output
    summary = json.loads(service.run("cat /tmp/report.json"))["summary"]
    print({name: summary[name] for name in ("sent", "acked", "drained", "reconnects", "connect_failures", "closes")})
    assert (summary["connect_failures"], summary["last_failure"]) == (0, "")
    assert summary["drained"] == summary["reconnects"] == DEVICES
    verify(service, "/tmp/report.json")


def test_a_reload_is_in_force_without_a_new_process_or_a_lost_device(service: Service) -> None:
    with service.popen("devices-sim run --devices 5 --interval 200ms --duration 5s --quiet --json") as fleet:
        service.wait(lambda: service.metric("gateway_connections") == 5, "five devices")
        before = service.show("MainPID")
        service.run(f"sed -i 's/ level: info/ level: debug/' {CONFIG}; systemctl reload telemetry-gateway.service")
        service.wait(lambda: "logging.level" in service.journal(), "the change to be told")
        service.run(f"echo 'no_such_setting: 1' >> {CONFIG}; systemctl reload telemetry-gateway.service")
        service.wait(lambda: "no_such_setting" in service.get("/readyz"), "the mistake to be told")
        service.run(f"sed -i /no_such_setting/d {CONFIG}; systemctl reload telemetry-gateway.service")
        service.wait(lambda: "no_such_setting" not in service.get("/readyz"), "the good file to be read")
        assert service.show("MainPID") == before
        summary = json.loads(fleet.communicate(timeout=30)[0])
    assert (summary["connects"], summary["outstanding"]) == (5, 0)


def test_a_configuration_with_a_mistake_is_told_and_tried_again(service: Service) -> None:
    service.run(f"echo 'no_such_setting: 1' >> {CONFIG}; systemctl restart --no-block telemetry-gateway.service")
    service.wait(lambda: int(service.show("NRestarts")) >= 1, "a second attempt")
    with service.popen("devices-sim run --devices 1 --duration 1s --quiet --json") as early:
        service.run(f"sed -i /no_such_setting/d {CONFIG}")
        summary = json.loads(early.communicate(timeout=30)[0])
    assert (summary["connect_failures"], summary["outstanding"]) == (0, 0), "it waited, and was served"
    assert "no_such_setting: unknown setting" in service.journal()


def test_an_upgrade_keeps_what_there_is(service: Service) -> None:
    known = json.loads(service.get("/v1/devices?limit=1"))["total"]
    assert known > DEVICES
    before = service.show("MainPID")
    service.follow("Change and upgrade")
    assert service.show("MainPID") != before
    assert json.loads(service.get("/v1/devices?limit=1"))["total"] == known


def test_a_move_keeps_what_there_is_and_the_service_can_go_on_with_it(service: Service) -> None:
    """The old machine is the new one here: what it has kept is deleted in between."""
    known = json.loads(service.get("/v1/devices?limit=1"))["total"]
    service.follow("Move to another machine")
    assert json.loads(service.get("/v1/devices?limit=1"))["total"] == known
    state = json.loads(service.get("/readyz"))
    assert (state["ready"], state["warnings"]) == (True, [])
    assert service.run("find /var/lib/telemetry-gateway/ -user root") == ""


def test_nothing_is_left_after_a_removal(service: Service) -> None:
    service.follow("Remove")
    places = "/etc /opt /usr/local/bin /var/lib /run/systemd"
    assert service.run(f"find {places} -name '*telemetry-gateway*' -o -name '*devices-sim*'") == ""
    assert service.run("systemctl list-units --all --plain --no-legend 'telemetry-gateway*' 'devices-sim*'") == ""
