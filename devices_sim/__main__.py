"""``devices-sim``, also as ``python -m devices_sim``."""

from __future__ import annotations

import click

from devices_sim.cli.replay import replay
from devices_sim.cli.run import run
from devices_sim.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Simulate devices to try a telemetry gateway, and check that no reading was lost.

    Exit codes: 0 success; 1 a reading has no verdict, is missing, wrong or doubled, or the gateway broke the protocol;
    2 wrong usage.
    """


main.add_command(run)
main.add_command(replay)
main.add_command(verify)

if __name__ == "__main__":
    main(prog_name="devices-sim")
