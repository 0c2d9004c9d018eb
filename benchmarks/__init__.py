"""The gateway and its alternatives, measured in one run on one machine: ``python -m benchmarks``."""
