"""Arguments to an exit code; `gateway.cli` has the commands."""

from __future__ import annotations

from gateway.cli import cli


def main() -> None:
    """Run the ``gateway`` command and exit."""
    cli(prog_name="gateway")


if __name__ == "__main__":
    main()
