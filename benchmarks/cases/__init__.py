"""The cases: one file per way of measuring, and `suite`, their list."""
