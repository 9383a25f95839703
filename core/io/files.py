"""Files that are there whole or not at all, whatever a full disk or a killed process cuts short."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk, or a quota on it, says when it takes no more."""


@contextmanager
def new_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write; what was at `path` is replaced at the end, if nothing is raised before.

    Args:
        path: where.
        durable: whether it must be there after a power cut from then on.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(content: bytes | memoryview | str, path: Path, durable: bool = True) -> None:
    """Write the whole of a file or nothing; see `new_file`."""
    with new_file(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def says_full(text: str) -> bool:
    """Whether the text of an error says that a disk is full."""
    return any(os.strerror(number) in text for number in FULL)
