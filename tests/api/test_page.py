"""The page's files as browsers get them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.page.files import STATIC, PageFiles
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    tokens = {"viewer_token": "viewer-token-0123456789", "admin_token": "admin-token-0123456789"}
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"auth": tokens}) as running:
        yield running


@pytest.fixture
def visitor(gateway: RunningGateway) -> Visitor:
    return Visitor(gateway.url)


SERVED = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.suffix not in {"", ".md"})


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/index.html", "text/html; charset=utf-8"),
        ("/static/vendor/uPlot.iife.js", "text/javascript; charset=utf-8"),
        ("/static/vendor/uPlot.min.css", "text/css; charset=utf-8"),
        ("/static/vendor/uPlot.LICENSE.txt", "text/plain; charset=utf-8"),
    ],
)
def test_a_file_comes_to_anybody_and_binds_the_browser(visitor: Visitor, path: str, kind: str) -> None:
    answer = visitor.send("GET", path)
    assert answer.status == 200
    assert len(answer.body) > 500
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    head = visitor.send("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))


def test_the_charts_are_uplots_own(visitor: Visitor) -> None:
    assert b"github.com/leeoniya/uPlot" in visitor.send("GET", "/static/vendor/uPlot.iife.js").body
    licence = visitor.send("GET", "/static/vendor/uPlot.LICENSE.txt").body
    assert b"MIT License" in licence
    assert b"Leon Sorokin" in licence


def test_every_file_of_the_page_is_served(visitor: Visitor) -> None:
    assert "index.html" in SERVED
    for name in SERVED:
        answer = visitor.send("GET", f"/static/{name}")
        assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes()), name


def test_a_browser_that_has_it_is_told_so(visitor: Visitor) -> None:
    first = visitor.send("GET", "/")
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    again = visitor.send("GET", "/", If_None_Match=etag)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == etag
    assert again.headers["Content-Security-Policy"] == POLICY
    assert visitor.send("GET", "/", If_None_Match='"other"').status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/nothing.js",
        "/static/",
        "/static",
        "/static/vendor",
        "/static/vendor/",
        "/static/../files.py",
        "/static/..%2fpages.py",
        "/static/%2e%2e/files.py",
        "/static/%2e%2e%2fpages.py",
        "/static/vendor/../index.html",
        "/static/vendor/..%5c..%5cindex.html",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/....//files.py",
        "/static/./index.html",
        "/static/index.html%00.js",
        "/static/index.html%0a",
        "/static/.gitignore",
        "/static/vendor/.hidden.js",
        "/static/C:/index.html",
        "/static/index.html/",
        "/static/" + "a/" * 2000 + "x.js",
    ],
)
def test_nothing_else_is(visitor: Visitor, path: str) -> None:
    answer = visitor.send("GET", path)
    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/json"
    if path.startswith("/static/"):
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_they_can_only_be_read(visitor: Visitor, method: str) -> None:
    answer = visitor.send(method, "/static/index.html")
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.body["error"]["message"] == f"this path takes {answer.headers['Allow']}, not {method}"
    assert answer.headers["Content-Security-Policy"] == POLICY


NAMES = ["a.js", "a-b_1.min.css", "sub/b.html"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "static/sub").mkdir(parents=True)
    for name in (*NAMES, "page.py", "noname", ".dot.js", "sub/.dot.js"):
        (tmp_path / "static" / name).write_text(name)
    (tmp_path / "outside.js").write_text("outside")
    return tmp_path / "static"


def test_only_files_of_a_known_kind_are_found(directory: Path) -> None:
    files = PageFiles(directory)
    for name in NAMES:
        file = files.get(name)
        assert file is not None
        assert file.data == name.encode()
    names = "page.py", "noname", ".dot.js", "sub/.dot.js", "../outside.js", "sub/../../outside.js", "sub", "/a.js", ""
    assert [files.get(name) for name in names] == [None] * len(names)


def test_a_running_gateway_keeps_the_page_of_its_own_version(directory: Path) -> None:
    files = PageFiles(directory)
    (directory / "a.js").write_text("changed")
    (directory / "a-b_1.min.css").unlink()
    (directory / "new.js").write_text("new")
    before = [files.get(name) for name in ("a.js", "a-b_1.min.css", "new.js")]
    assert [file and file.data for file in before] == [b"a.js", b"a-b_1.min.css", None]
    after, first = PageFiles(directory).get("a.js"), before[0]
    assert first is not None
    assert after is not None
    assert (after.data, after.etag != first.etag) == (b"changed", True)
