"""The live feed: what changes, as events, to viewers."""
