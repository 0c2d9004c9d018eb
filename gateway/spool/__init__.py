"""The durable queue between acceptance and delivery; FORMAT.md describes its bytes."""
