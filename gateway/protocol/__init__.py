"""The device protocol of PROTOCOL.md without sockets, clock or loop: events in, effects out."""
