"""Starts, pins, measures and stops the processes of a run."""
