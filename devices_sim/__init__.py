"""Simulated devices that speak the gateway's protocol; written from PROTOCOL.md alone, never importing the gateway."""
