"""Files that are there whole or not at all, whatever a full disk or a killed process cuts short."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk, or a quota on it, says when it takes no more."""


def write_atomically(content: bytes | memoryview | str, path: Path, durable: bool = True) -> None:
    """Write a file: the whole of it or nothing.

    Args:
        content: of the file.
        path: where; a file that was there is replaced.
        durable: whether it must be there after a power cut, if this returns before.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def says_full(text: str) -> bool:
    """Whether the text of an error says that a disk is full."""
    return any(os.strerror(number) in text for number in FULL)
