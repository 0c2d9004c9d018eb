"""The durable queue between acceptance and delivery; docs/reference/files.md describes its bytes."""
