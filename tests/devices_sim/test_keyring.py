from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from devices_sim.__main__ import main
from devices_sim.keyring import Keyring, KeyringError

if TYPE_CHECKING:
    from pathlib import Path


def keyring(path: Path) -> Keyring:
    return Keyring(path, lambda _device, _claim: None)


def test_a_device_asks_with_the_same_claim_and_secret_until_it_has_a_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = keyring(path).enrolment("d1")
    assert re.fullmatch(r"[A-Z2-9]{4}-[A-Z2-9]{4}", first["claim"])
    assert len(first["secret"]) == 22
    again = keyring(path)
    assert again.enrolment("d1") == first
    assert again.enrolment("d2")["secret"] != first["secret"]
    assert again.token("d1") is None
    again.keep("d1", "TOKEN")
    assert keyring(path).token("d1") == "TOKEN"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"d1": 7}'])
def test_a_file_that_is_something_else_is_told_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeyringError, match="holds no tokens"):
        keyring(path)
    result = CliRunner().invoke(main, ["run", "--enrol", str(path)])
    assert result.exit_code == 2
    assert "holds no tokens" in result.stderr
    assert path.read_text() == text
