"""The gateway beside what people would otherwise run, measured in one run on one machine: ``python -m benchmarks``."""
