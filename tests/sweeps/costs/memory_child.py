"""Runs a configuration's point in this process, and prints the most memory that it took.

python -m tests.sweeps.costs.memory_child CONFIG [KEY=VALUE]...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from luceloop.core.loop.loop import run_loop
from luceloop.sweeps.presets.reading import read_config

if __name__ == "__main__":
    for _ in run_loop(read_config(sys.argv[1], sys.argv[2:]).point):
        pass
    # What `getrusage` tells begins with the most that the process which started this one has taken.
    most = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert most
    print(int(most[1]) * 1024)
