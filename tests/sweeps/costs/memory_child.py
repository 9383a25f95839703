"""Runs a configuration's point in this process, and prints the most memory that it took.

python -m tests.sweeps.costs.memory_child CONFIG [KEY=VALUE]...
"""

from __future__ import annotations

import resource
import sys

from luceloop.core.loop.loop import run_loop
from luceloop.sweeps.presets.reading import read_config

if __name__ == "__main__":
    for _ in run_loop(read_config(sys.argv[1], sys.argv[2:]).point):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
