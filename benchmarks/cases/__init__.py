"""What is measured: one file per way of measuring, and `suite`, the list of cases."""
