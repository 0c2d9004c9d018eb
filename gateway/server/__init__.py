"""Tornado shells: sockets and requests on one side, the pure parts on the other."""
