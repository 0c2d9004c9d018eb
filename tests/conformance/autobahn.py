"""Run Autobahn's cases against an echo server: ``autobahn.py ADDRESS [CASE ...]``; verdicts as JSON on stdout.

All 517 cases take six minutes against ``echo.py``, nearly all of it in the compression cases 12 and 13.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import kosoku

PARALLEL = 8


async def verdicts(address: str, cases: list[str]) -> dict[str, list[str]]:
    """Case to its verdict on the messages, on the close, and what was wrong."""
    try:
        results = await kosoku.run_fuzzingclient(address, cases or None, None, concurrency=PARALLEL)
    except kosoku.FailureError as failure:
        results = failure.results
    return {r.case_id: [r.behavior.value, r.behavior_close.value, r.result, r.result_close] for r in results}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(verdicts(sys.argv[1], sys.argv[2:]))), flush=True)
    os._exit(0)  # its threads sometimes abort the interpreter's orderly end
