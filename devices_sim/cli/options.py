"""Option types and options that several commands have."""

from __future__ import annotations

import csv
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devices_sim.network import websocket_url
from devices_sim.scenario import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that is a duration (``500ms``, ``20s``, ``5m``): seconds."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def gateway_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Callback of ``--url``: the address of a gateway, as a WebSocket URL."""
    try:
        return websocket_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)

_CONNECTION = (
    click.option(
        "--url",
        metavar="URL",
        callback=gateway_url,
        default="ws://127.0.0.1:8080",
        show_default=True,
        help="Address of the gateway. Each device adds /v1/devices/{id}/stream.",
    ),
    click.option("--ca", type=FILE, help="File of certificates to trust for wss, instead of the system's."),
    click.option(
        "--ack",
        type=click.Choice(["durable", "stored", "none"]),
        default="durable",
        show_default=True,
        help="When the gateway acknowledges: on its disk (durable), in the database (stored), or never (none).",
    ),
    click.option(
        "--grace",
        callback=duration,
        metavar="DURATION",
        default="10s",
        show_default=True,
        help="How long to wait at the end for messages that are not acknowledged or refused yet.",
    ),
    click.option("--report", type=NEW_FILE, help="Write a JSON report for `verify` to this file."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that connects."""
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


def read_certificates(directory: Path, ca: Path | None) -> dict[str, ssl.SSLContext]:
    """By device id, the TLS context with the certificate and key from ``directory/ID.pem``.

    Raises:
        click.BadParameter: a file does not hold a certificate with its key.
    """
    found: dict[str, ssl.SSLContext] = {}
    looked_up = None if ca else system_directory()
    for path in sorted(directory.glob("*.pem")):
        context = found[path.stem] = tls_context(ca) or ssl.create_default_context(capath=looked_up)
        try:
            # A password, or OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(path, password="")
        except OSError as error:
            what = f"{path}: no certificate with its key ({error})"
            raise click.BadParameter(what, param_hint="--certificates") from error
    return found


def system_directory() -> str | None:
    """The directory where OpenSSL looks up one authority of the system at a time; None if it does not have them all.

    To load all authorities costs each context 20 ms and 0.9 MB.
    """
    directory = ssl.get_default_verify_paths().capath
    if not directory:  # there may be none
        return None
    hashed: set[bytes] = set()
    for path in Path(directory).glob("*.[0-9]"):  # the names that `openssl rehash` gives
        with suppress(OSError, ValueError):
            hashed.add(ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii")))
    return directory if hashed.issuperset(ssl.create_default_context().get_ca_certs(binary_form=True)) else None


def tls_context(ca: Path | None) -> ssl.SSLContext | None:
    """A client context that trusts ``ca``; without ``ca`` None, and the library trusts the system's authorities."""
    try:
        return ssl.create_default_context(cafile=str(ca)) if ca else None
    except ssl.SSLError as error:
        raise click.BadParameter(f"{ca}: no certificates in it ({error})", param_hint="--ca") from error


def read_tokens(path: Path) -> dict[str, str]:
    """Device id to token, from lines ``device,token``. Skips blank lines, # comments and the heading ``id,token``.

    Raises:
        click.BadParameter: another line has a different form.
    """
    tokens: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#") or cells == ["id", "token"]:
                continue
            if len(cells) != 2 or not all(cells):
                raise click.BadParameter(f"{path}:{number}: not `device,token`", param_hint="--tokens")
            tokens[cells[0]] = cells[1]
    return tokens
