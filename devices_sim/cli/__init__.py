"""The commands of ``devices-sim``: options in, exit code out."""
