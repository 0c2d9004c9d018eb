"""Connections and requests before their handler is known: the listener, its bounds, and the role of a request."""
