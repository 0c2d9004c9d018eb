"""The rules of `gateway.cli.logs` that can be checked in the source."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY = Path(__file__).parents[2] / "gateway"


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """The calls of ``log``, after their text, which may be in a variable of the same function."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for function in functions:
        texts: dict[str, ast.expr] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                texts[node.targets[0].id] = node.value
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.") and node.args:
                text = node.args[0]
                text = texts.get(text.id, text) if isinstance(text, ast.Name) else text
                yield (text.value, node) if isinstance(text, ast.Constant) else ("", node)


def test_a_line_about_a_device_names_it_in_a_field_too() -> None:
    """Otherwise all devices share one limit of log lines for that place, and programs have to parse the text."""
    fields = {}
    for path in GATEWAY.glob("**/*.py"):
        for text, call in calls(ast.parse(path.read_text())):
            if text.startswith("device %s"):
                fields[f"{path}:{call.lineno}"] = {keyword.arg for keyword in call.keywords}
    assert len(fields) > 10
    assert [place for place, names in fields.items() if "extra" not in names] == []
