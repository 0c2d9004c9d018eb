"""Simulated devices that speak the protocol of docs/reference/protocol.md. They never import the gateway."""
