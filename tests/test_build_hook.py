"""uPlot comes into wheels and editable installs as its makers released it, or the build says why not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import hatch_build
from hatch_build import FILES, PACKAGE, VENDOR, UPlotHook

ROOT = Path(hatch_build.__file__).parent
INSIDE = {name: inside for name, (inside, _) in FILES.items()}


def build(root: Path, version: str) -> dict[str, str]:
    """What a build of that kind adds to its wheel: places by source."""
    data: dict[str, Any] = {"force_include": {}}
    UPlotHook(str(root), {}, None, None, "", "wheel").initialize(version, data)
    return dict(data["force_include"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package that ships uPlot, as it is installed; importing it fails."""
    site = tmp_path / "site"
    for name, inside in INSIDE.items():
        (site / inside).parent.mkdir(parents=True, exist_ok=True)
        (site / inside).write_bytes((ROOT / VENDOR / name).read_bytes())
    (site / PACKAGE / "__init__.py").write_text("raise RuntimeError")
    (site / f"{PACKAGE}-1.0.0.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0.0\n"
    (site / f"{PACKAGE}-1.0.0.dist-info/METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(site)
    return site


def test_a_wheel_takes_the_files_from_the_package_and_leaves_the_tree_as_it_is(tmp_path: Path, package: Path) -> None:
    assert build(tmp_path, "standard") == {str(package / inside): f"{VENDOR}/{name}" for name, inside in INSIDE.items()}
    assert not (tmp_path / VENDOR).exists()


def test_an_editable_install_has_them_in_the_tree(tmp_path: Path, package: Path) -> None:
    for _ in range(2):
        assert build(tmp_path, "editable") == {}
        for name, inside in INSIDE.items():
            assert (tmp_path / VENDOR / name).read_bytes() == (package / inside).read_bytes()


def test_files_in_place_need_no_package(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, "editable")
    monkeypatch.setattr(hatch_build, "PACKAGE", "no-such-package")
    assert build(tmp_path, "editable") == {}
    assert list(build(tmp_path, "standard")) == [str(tmp_path / VENDOR / name) for name in FILES]


def test_a_file_in_place_that_is_another_is_replaced(tmp_path: Path, package: Path) -> None:
    build(tmp_path, "editable")
    (tmp_path / VENDOR / "uPlot.min.css").write_text("old")
    assert str(package / INSIDE["uPlot.min.css"]) in build(tmp_path, "standard")
    build(tmp_path, "editable")
    assert (tmp_path / VENDOR / "uPlot.min.css").read_text() != "old"


def test_without_the_package_the_build_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hatch_build, "PACKAGE", "no-such-package")
    with pytest.raises(RuntimeError, match=r"no-such-package, which is not installed here\. Build with isolation"):
        build(tmp_path, "standard")


def test_a_package_that_ships_anything_else_is_refused(tmp_path: Path, package: Path) -> None:
    with (package / INSIDE["uPlot.iife.js"]).open("ab") as file:
        file.write(b"//")
    with pytest.raises(RuntimeError, match=rf"of {PACKAGE} 1\.0\.0 is not the file of uPlot"):
        build(tmp_path, "editable")
    assert not (tmp_path / VENDOR).exists()


def test_the_project_names_the_package_for_builds_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (named,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["dependencies"]
    assert re.fullmatch(rf"{PACKAGE}==[\d.]+", named)
    assert not any(PACKAGE in needed for needed in project["project"]["dependencies"])
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/{VENDOR}/{name}" for name in FILES} <= set(ignored)
