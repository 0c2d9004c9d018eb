"""The generator's process: orders in by standard input, events out by standard output, one JSON object a line.

``connect`` -> ``connected``; ``go`` -> ``started``, ``sent``; ``window`` -> ``window``; ``probe`` -> ``probed``;
``report`` -> ``report``. It ends when its input does.
"""

from __future__ import annotations

import gc

from benchmarks.generator.devices import Generator

if __name__ == "__main__":
    gc.disable()  # nothing here is cyclic, and a full collection would make the schedule late
    Generator().run()
