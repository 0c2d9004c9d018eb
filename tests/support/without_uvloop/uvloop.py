"""Stands before the real uvloop on the path of a run that is to do without it, and of its child processes."""

raise ImportError("GATEWAY_TEST_LOOP=asyncio hides uvloop")
