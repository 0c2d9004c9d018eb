"""The documents say what is there: routes, commands, modules and links."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from devices_sim.__main__ import main as simulator
from gateway.api.routes import PATHS
from gateway.cli import cli
from gateway.config import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if not {".venv", "node_modules"} & set(path.parts))


@pytest.mark.parametrize("pattern", PATHS)
def test_every_path_is_in_the_readme(pattern: str) -> None:
    assert pattern.replace("([^/]+)", "{id}") in README


@pytest.mark.parametrize("name", [f"gateway {name}" for name in cli.list_commands(None)])  # type: ignore[arg-type]
def test_every_command_of_the_gateway_is_in_the_readme(name: str) -> None:
    assert name in README


@pytest.mark.parametrize("line", re.findall(r"^influxdb: .*$", README, re.MULTILINE))
def test_every_way_to_a_database_in_the_readme_is_a_good_configuration(line: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"sink: influxdb\n{line}\n")
    assert load(path, {}).sink == "influxdb"


def test_every_command_of_the_simulator_is_in_the_readme() -> None:
    for name in simulator.list_commands(None):  # type: ignore[attr-defined]
        assert re.search(rf"devices-sim.*`?{name}`?", README), name


def test_every_row_of_what_survives_what_names_a_test() -> None:
    table = README.partition("## What survives what")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 10
    for row in rows:
        found = re.search(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\) \|$", row)
        assert found, row
        assert f"def {found[1]}(" in (ROOT / found[2]).read_text(), row


def test_every_claim_of_the_threat_model_names_its_tests_and_files() -> None:
    text = (ROOT / "docs/explanation/threats.md").read_text()
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)\)", text)
    assert len(named) > 40
    for test, path in named:
        assert f"def {test}(" in (ROOT / path).read_text(), (test, path)
    for row in re.findall(r"^\| .* \| .* \| (.*) \| .*test_.* \|$", text, re.MULTILINE):
        for path in re.findall(r"`([\w/.]+)`", row):
            assert (ROOT / "gateway" / path).exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("package", ["gateway", "devices_sim"])
def test_every_module_says_what_it_is_for(package: str) -> None:
    for path in (ROOT / package).glob("**/*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
