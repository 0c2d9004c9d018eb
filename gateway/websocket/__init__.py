"""RFC 6455 on the event loop's transport; knows no device and no gateway."""
