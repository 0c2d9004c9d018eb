"""Sockets and requests before they are anything else: the listener, its bounds, and what a request may do."""
