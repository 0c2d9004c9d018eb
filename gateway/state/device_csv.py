"""Devices as CSV (RFC 4180): the import and the export of the registry.

Rules that hold here:

* An import reports every problem of a file, with its line. A file with a problem is not imported at all.
* No spreadsheet takes a written cell for a formula: a cell that looks like one gets an apostrophe in front, which an
  import removes. So a file that is written and read back is the same.
* An import can have the tokens that devices have already. An export has none.
"""

from __future__ import annotations

import csv
from functools import partial
from typing import IO, TYPE_CHECKING

from gateway.config.sections import DEFAULT_PROFILE
from gateway.errors import RegistryError
from gateway.state.registered_device import NewDevice, check_device, check_profile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from gateway.state.registered_device import Device

TAG = "tag:"
IGNORED_COLUMNS = "registered", "token_changed"
COLUMNS = "id", "profile", "state", "token", *IGNORED_COLUMNS
STATES = "active", "revoked"
MAX_DEVICES = 1_000_000
TOKEN_LENGTH = range(32, 513)
"""Characters of a token that another system has made: enough for 128 random bits, even in hexadecimal. Whether it is
random cannot be checked here; a token that can be guessed lets an attacker connect as the device."""
_FORMULA = "=+-@\t\r"


class DeviceTable:
    """A CSV file that was read: its ``devices`` in their order, and all of its ``problems``."""

    def __init__(self, lines: Iterable[str], profiles: Collection[str], known: Collection[str]) -> None:
        """``known`` are the ids of registered devices, ``profiles`` the names of the configuration's profiles."""
        self.devices: list[NewDevice] = []
        self.problems: list[str] = []
        self._profiles = profiles
        self._known = known
        self._ids: dict[str, int] = {}
        """The line of each id."""
        self._tokens: dict[str, int] = {}
        """The line of each token."""
        reader = csv.reader(lines, strict=True)
        try:
            columns = self._header(next(reader, []))
            for cells in reader if columns else ():
                if len(self.devices) == MAX_DEVICES:
                    self._wrong(reader.line_num, f"more than {MAX_DEVICES} devices")
                    break
                if any(cells):
                    self._row(reader.line_num, columns, cells)
        except csv.Error as error:
            self._wrong(reader.line_num, str(error))
        except UnicodeDecodeError as error:
            self._wrong(reader.line_num + 1, f"this line or one soon after it is not UTF-8: {error.reason}")

    def _wrong(self, line: int, problem: str) -> None:
        self.problems.append(f"line {line}: {problem}")

    def _header(self, cells: Sequence[str]) -> list[str]:
        columns = [_plain(cell.strip()) for cell in cells]
        for column in columns:
            if column not in COLUMNS and not column.startswith(TAG):
                self._wrong(1, f"unknown column {column!r}; known columns: {', '.join(COLUMNS)} and {TAG}NAME")
            elif columns.count(column) > 1:
                self._wrong(1, f"the column {column} occurs more than once")
        if "id" not in columns:
            self._wrong(1, "the first line must name the columns, and one of them must be id")
        return [] if self.problems else columns

    def _row(self, line: int, columns: Sequence[str], cells: Sequence[str]) -> None:
        if len(cells) > len(columns):
            return self._wrong(line, f"{len(cells)} cells, but {len(columns)} columns")
        found = {column: _plain(cell) for column, cell in zip(columns, cells, strict=False) if cell}
        tags = {name.removeprefix(TAG): value for name, value in found.items() if name.startswith(TAG)}
        named = {name: value.strip() for name, value in found.items() if value.strip()}
        device = NewDevice(
            named.get("id", ""),
            named.get("profile", DEFAULT_PROFILE),
            tags,
            named.get("token"),
            revoked=named.get("state") == "revoked",
        )
        before = len(self.problems)
        for problem in self._problems(line, device, named.get("state", STATES[0])):
            self._wrong(line, problem)
        if len(self.problems) == before:
            self.devices.append(device)
        return None

    def _problems(self, line: int, device: NewDevice, state: str) -> Iterator[str]:
        checks = partial(check_device, device.id, device.tags), partial(check_profile, device.profile, self._profiles)
        for check in checks:
            try:
                check()
            except RegistryError as error:
                yield str(error)
        if state not in STATES:
            yield f"a state is {' or '.join(STATES)}, not {state[:40]!r}"
        if device.id in self._known:
            yield f"the device {device.id} is registered already"
        if (first := self._ids.setdefault(device.id, line)) != line:
            yield f"the device {device.id[:128]} is in line {first} already"
        if device.token is not None:
            yield from self._problems_of_token(line, device.token)

    def _problems_of_token(self, line: int, token: str) -> Iterator[str]:
        plain = token.isascii() and token.isprintable() and " " not in token
        if not plain or len(token) not in TOKEN_LENGTH:
            shortest, longest = TOKEN_LENGTH[0], TOKEN_LENGTH[-1]
            yield f"a token has {shortest} to {longest} printable ASCII characters and no space"
        if (first := self._tokens.setdefault(token, line)) != line:
            yield f"its token is also the token of line {first}"


def write_devices(file: IO[str], devices: Sequence[Device], described: Iterable[Sequence[str]]) -> None:
    """Write devices; ``described`` has the id, profile, state and times of each, in the order of the columns."""
    names = sorted({name for device in devices for name in device.tags})
    columns = [column for column in COLUMNS if column != "token"]
    rows = (
        [*cells, *(device.tags.get(name, "") for name in names)]
        for device, cells in zip(devices, described, strict=True)
    )
    write_table(file, [*columns, *(f"{TAG}{name}" for name in names)], rows)


def write_table(file: IO[str], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table of which a spreadsheet takes no cell for a formula."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_safe(column) for column in columns])
    writer.writerows([_safe(cell) for cell in row] for row in rows)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(tuple(_FORMULA)) or _plain(cell) != cell else cell


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:2] and cell[1] in f"{_FORMULA}'" else cell
