"""The devices: a process of its own, which must never limit a run."""
