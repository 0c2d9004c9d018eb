"""docs/reference/protocol.md names what the code can say, and its examples are what they claim to be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.protocol import codec, field, field_rules, merge_patch, reports
from gateway.protocol.messages import Ack, CloseCode, Code

DOCUMENT = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text(encoding="utf-8")


def table(heading: str) -> str:
    """The section under a heading."""
    return DOCUMENT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("code", Code)
def test_every_code_is_explained(code: Code) -> None:
    assert f"| `{code}` |" in table("Codes")


def test_no_code_is_explained_that_is_never_used() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", table("Codes"), re.MULTILINE)) == set(Code)


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_is_explained(code: CloseCode) -> None:
    assert re.search(rf"^\|.*\b{code.value}\b", table("Close codes"), re.MULTILINE)


@pytest.mark.parametrize("level", Ack)
def test_every_level_of_acknowledgement_is_explained(level: Ack) -> None:
    assert f"`{level}`" in table("Messages of the device")


@pytest.mark.parametrize("limit", ["spool_bytes", "spool_write", "max_unacked", "commit_queue"])
def test_every_throttle_is_explained(limit: str) -> None:
    assert f"| `{limit}` |" in table("Messages of the gateway")


@pytest.mark.parametrize(
    "limit",
    [
        codec.MAX_READINGS,
        field_rules.MAX_FIELDS,
        field_rules.MAX_DEPTH,
        field.MAX_TEXT_BYTES,
        codec.MAX_BOOT,
        reports.MAX_RESULT,
        reports.MAX_ERROR,
        merge_patch.MAX_SETTINGS,
    ],
)
def test_every_limit_is_told(limit: int) -> None:
    assert re.search(rf"\| {limit:,}\b", table("Limits"))


def test_answers_in_the_document_are_json_with_the_keys_that_are_sent() -> None:
    section = table("Messages of the gateway")
    shown = [json.loads(text) for text in re.findall(r"\n((?:    .*\n)+)", section)]
    assert [message["type"] for message in shown] == [
        "pending",
        "token",
        "welcome",
        "ack",
        "reject",
        "throttle",
        "command",
        "settings",
        "time",
        "drain",
        "error",
    ]
    vectors = Path(__file__).parents[1] / "vectors"
    answers = [
        step["answers"]
        for path in vectors.glob("*.json")
        for case in json.loads(path.read_text(encoding="utf-8"))
        for step in case["script"]
        if "answers" in step
    ]
    for message in shown:
        alike = [answer for answer in answers if answer["type"] == message["type"]]
        assert {key for answer in alike for key in answer} | {"message"} >= message.keys()
    assert {answer["type"] for answer in answers} == {message["type"] for message in shown}
