"""The devices: a process of its own that must never be what limits a run."""
