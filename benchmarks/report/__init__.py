"""Turns the runs into medians, a table and a chart."""
