"""What a document names exists, and the reference is complete: paths, commands, settings, metrics, modules, links."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from devices_sim.__main__ import main as simulator
from gateway.api.routes import PATHS
from gateway.cli import cli as gateway
from gateway.config import Config
from gateway.devices.session_runner import REASONS
from gateway.websocket.disconnect_cause import CloseCause
from tests.codebase.reference import pages, with_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(path for path in ROOT.glob("**/*.md") if not {".venv", "node_modules"} & set(path.parts))


@pytest.mark.parametrize("pattern", PATHS)
def test_every_path_is_in_the_reference(pattern: str) -> None:
    page = (DOCS / "reference/http-api.md").read_text()
    assert re.search(rf"/?{re.escape(pattern.replace('([^/]+)', '{id}'))}[`?,]", page)


def test_every_error_of_the_api_is_in_the_reference() -> None:
    page = (DOCS / "reference/http-api.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "gateway/api").glob("*.py"))
    codes = set(re.findall(r'refuse\(\s*\d{3}, "(\w+)"|\(\d{3}, "(\w+)"\)', code))
    assert len(codes) > 20
    for name in ("".join(found) for found in codes):
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("page", pages())
def test_the_tables_made_from_the_code_are_current(page: str) -> None:
    text = (DOCS / "reference" / page).read_text()
    assert text == with_tables(text, pages()[page]), "write them anew: python -m tests.codebase.reference"


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of that kind in README and docs, each with the name of its document."""
    for document in (ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))):
        for block in re.findall(rf"^ *```{kind}\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL):
            yield str(document.relative_to(ROOT)), textwrap.dedent(block)


def configurations() -> Iterator[tuple[str, str]]:
    """Every piece of a configuration in the documents; of several ways to a database, each by itself."""
    for name, block in blocks("yaml"):
        ways = re.findall(r"^influxdb: .*$", block, re.MULTILINE)
        yield from ((name, way) for way in ways or [block])


@pytest.mark.parametrize(("document", "block"), [*configurations()])
def test_every_configuration_in_a_document_is_a_good_one(document: str, block: str) -> None:
    Config.model_validate(yaml.safe_load(block))


def commands() -> Iterator[tuple[str, str]]:
    """Every call of a command of ours in the documents."""
    for name, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for found in re.findall(r"(?:^|[(;&|] ?)(?:\S*/bin/)?((?:gateway|devices-sim) [^;&|>#)]*)", line):
                yield name, found.strip()


@pytest.mark.parametrize(("document", "line"), [*commands()])
def test_every_command_in_a_document_exists_with_its_options(document: str, line: str) -> None:
    program, *words = shlex.split(line)
    command: click.Command = gateway if program == "gateway" else simulator
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    known = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


PROSE = [path for path in DOCUMENTS if not {"tests", "benchmarks"} & set(path.relative_to(ROOT).parts)]
METRICS = set(re.findall(r"^\| `(\w+)`", (DOCS / "reference/metrics.md").read_text(), re.MULTILINE))
SETTINGS = set(re.findall(r"^\| `([\w.]+)`", (DOCS / "reference/configuration.md").read_text(), re.MULTILINE))
SECTIONS = {name.rpartition(".")[0] for name in SETTINGS if "." in name}
OF_THE_WELCOME = {"keepalive.ping_interval_ms", "keepalive.timeout_ms", "limits.max_message_bytes"}
"""Keys of a message of the gateway that look like settings."""


@pytest.mark.parametrize("document", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_metric_and_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    of_a_section = rf"`((?:{'|'.join({name.partition('.')[0] for name in SECTIONS})})\.[a-zA-Z_.]+)`"
    for name in set(re.findall(of_a_section, text)) - OF_THE_WELCOME:
        setting = re.sub(r"^profiles\.\w+", "profiles.NAME", name)
        assert setting in SETTINGS | SECTIONS or name.endswith(".py"), name
    for name in re.findall(r"GATEWAY_([A-Z]+__[A-Z_]+)", text):
        assert name.lower().replace("__", ".") in SETTINGS, name
    for name in re.findall(r"`(gateway_[a-z_]+)[`{]", text):
        assert name in METRICS, name
    for path in re.findall(r"/v1/[\w/{}.-]*\w", text):
        assert any(re.fullmatch(pattern, path.strip("{}")) for pattern in PATHS), path


def test_every_row_of_what_survives_what_names_a_test() -> None:
    table = (DOCS / "explanation/what-survives-what.md").read_text().partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 10
    for row in rows:
        found = re.search(r"\[`(test_\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)\) \|$", row)
        assert found, row
        assert f"def {found[1]}(" in (ROOT / found[2]).read_text(), row


def test_every_claim_of_the_threat_model_names_its_tests_and_files() -> None:
    text = (DOCS / "explanation/threats.md").read_text()
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)\)", text)
    assert len(named) > 40
    for test, path in named:
        assert f"def {test}(" in (ROOT / path).read_text(), (test, path)
    for row in re.findall(r"^\| .* \| .* \| (.*) \| .*test_.* \|$", text, re.MULTILINE):
        for path in re.findall(r"`([\w/.]+)`", row):
            assert (ROOT / "gateway" / path).exists() or (ROOT / path).exists(), path


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(anchor if anchor not in found else f"{anchor}-1")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            place = document.parent / path if path else document
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("package", ["gateway", "devices_sim"])
def test_every_module_says_what_it_is_for(package: str) -> None:
    for path in (ROOT / package).glob("**/*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("document", sorted(DOCS.glob("[er]*/*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_every_module_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    for name in re.findall(r"[`\s]((?:\w+/)*\w+\.py)\b", text):
        assert any((ROOT / above / name).exists() for above in ("gateway", "", "docs")), name
    for name in re.findall(r"`(\w+\.(?:js|css))`", text):
        assert (ROOT / "gateway/page/static" / name).exists(), name


def test_every_method_that_a_document_names_exists() -> None:
    code = [path.read_text() for path in sorted((ROOT / "gateway").glob("**/*.py"))]
    texts = [path.read_text() for path in (*(DOCS / "explanation").glob("*.md"), DOCS / "reference/files.md")]
    named = {each for text in texts for each in re.findall(r"\b([A-Z][a-z]\w+)\.([a-z_]\w+)\b", text)}
    ours = {(kind, member) for kind, member in named if kind != "Store"}  # a class of InfluxDB's
    assert len(ours) > 10
    for kind, member in ours:
        places = [text for text in code if re.search(rf"^class {kind}\b", text, re.MULTILINE)]
        here = re.compile(rf"^    (?:async )?def {member}\b|^    {member}: ", re.MULTILINE)
        assert any(here.search(text) for text in places), f"{kind}.{member}"


def test_every_folder_and_top_module_is_in_the_map() -> None:
    text = (DOCS / "explanation/way-of-a-reading.md").read_text().partition("## The map")[2].partition("\n## ")[0]
    for path in (ROOT / "gateway").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in text, path.name
        elif (path / "__init__.py").exists():
            assert f"`{path.name}/`" in text, path.name


def test_every_reason_of_a_disconnect_is_in_the_reference() -> None:
    page = (DOCS / "reference/metrics.md").read_text()
    assert [reason for reason in (*REASONS.values(), *CloseCause) if f"`{reason}`" not in page] == []


@pytest.mark.parametrize("package", ["gateway", "devices_sim", "tests"])
def test_every_heading_that_the_code_cites_exists(package: str) -> None:
    for path in (ROOT / package).glob("**/*.py"):
        for document, heading in re.findall(r"(docs/[\w/-]+\.md),\s+\"([^\"]+)\"", path.read_text()):
            assert re.search(rf"^#+ {re.escape(heading)}$", (ROOT / document).read_text(), re.MULTILINE), (
                path,
                heading,
            )
