"""The files of the page: scripts that a browser can read, no markup made of strings, colours with contrast."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.page.files import STATIC
from tests.support.servers import binary

SCRIPTS = sorted(STATIC.glob("*.js"))
CASES = Path(__file__).with_name("static_modules.mjs")
INDEX = (STATIC / "index.html").read_text()
THEMES = (STATIC / "theme.css").read_text()
TEXT = ("text", "muted", "accent", "good", "warn", "stale", "bad")
CURVES = tuple(f"series-{n}" for n in range(1, 7))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, in a directory where node takes them for modules as a browser does."""
    directory = tmp_path_factory.mktemp("modules")
    (directory / "package.json").write_text('{"type":"module"}')
    for script in [*SCRIPTS, CASES]:
        shutil.copy(script, directory)
    return directory


def node(*arguments: str | Path) -> None:
    command = [binary("node", "nodejs"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.server
def test_a_browser_can_read_every_script(modules: Path) -> None:
    check = "for (const file of process.argv.slice(1)) new (require('vm').SourceTextModule)("
    check += "require('fs').readFileSync(file, 'utf8'), { identifier: file })"
    node("--experimental-vm-modules", "--no-warnings", "--eval", check, *(modules / each.name for each in SCRIPTS))


@pytest.mark.server
def test_what_modules_compute(modules: Path) -> None:
    node("--test", modules / CASES.name)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_import_is_there(script: Path) -> None:
    for names, source in re.findall(r"^import \{([^}]*)\} from \"\./([\w.]+)\";", script.read_text(), re.MULTILINE):
        exported = set(
            re.findall(
                r"^export (?:async )?(?:function|const|class) (\w+)", (STATIC / source).read_text(), re.MULTILINE
            )
        )
        wanted = {name.partition(" as ")[0].strip() for name in names.split(",")}
        assert wanted <= exported, (script.name, source, wanted - exported)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_or_code_of_strings(script: Path) -> None:
    pattern = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setHTML"
    assert not re.findall(pattern, script.read_text())


def test_the_page_has_no_inline_script_or_style_and_loads_only_files_that_are_there() -> None:
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", INDEX)
    loaded = re.findall(r'(?:src|href)="(/[^"]*)"', INDEX)
    assert len(loaded) > 6
    for path in loaded:
        assert path.startswith("/static/"), path
        name = path.removeprefix("/static/")
        assert name.startswith("vendor/") or (STATIC / name).is_file(), path


def test_every_script_and_style_sheet_is_used() -> None:
    everything = INDEX + "".join(script.read_text() for script in SCRIPTS)
    for path in [*SCRIPTS, *STATIC.glob("*.css")]:
        assert re.search(rf"[\"/]{re.escape(path.name)}\"", everything), path.name


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT, DARK, SYSTEM = (colours(block) for block in re.findall(r":root[^{]*\{([^}]*)\}", THEMES))


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_curves_stand_out_in_both_themes(theme: dict[str, str]) -> None:
    for name in TEXT:
        assert min(contrast(theme[name], theme[ground]) for ground in ("bg", "surface", "raised")) >= 4.5, name
    for name in CURVES:
        assert contrast(theme[name], theme["surface"]) >= 3, name
    assert contrast(theme["on-accent"], theme["accent"]) >= 4.5


def test_the_system_s_dark_theme_is_the_chosen_one() -> None:
    assert SYSTEM == DARK
    assert LIGHT.keys() == DARK.keys()
