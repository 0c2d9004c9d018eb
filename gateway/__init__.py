"""Ingestion gateway for IoT sensor telemetry."""

__version__ = "0.1.0"
