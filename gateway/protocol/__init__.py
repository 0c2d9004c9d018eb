"""The device protocol of docs/reference/protocol.md without sockets, clock or loop: events in, effects out."""
