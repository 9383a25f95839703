"""How much memory there is, which no file's word makes larger."""

from __future__ import annotations

import os
from pathlib import Path

LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
"""Files that tell a container's limit, where this process is in one."""


def machine_memory() -> int:
    """Bytes of this machine's memory, or of the container's share of it that this process is in."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in map(Path, LIMITS):
        try:
            text = file.read_text().strip()
        except OSError:  # another kind of container, or none
            continue
        if text.isdecimal():
            found = min(found, int(text))
    return found


def in_words(size: int) -> str:
    """Bytes as people say them, such as `1.2 GB`."""
    amount, units = float(size), ["TB", "GB", "MB", "kB", "B"]
    while amount >= 1000 and len(units) > 1:
        amount, _ = amount / 1000, units.pop()
    return f"{amount:.0f} {units[-1]}" if amount in (size, 0) else f"{amount:.1f} {units[-1]}"
