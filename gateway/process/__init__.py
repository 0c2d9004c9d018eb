"""The process around the gateway: event loop, systemd, reload, threads, periodic tasks, clock."""
