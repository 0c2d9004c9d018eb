"""One thin file a path: parse the request, ask a service, answer."""
