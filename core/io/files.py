"""Files that are there whole or not at all, whatever a full disk or a killed process cuts short."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk, or a quota on it, says when it takes no more."""


@contextmanager
def new_file(path: Path, durable: bool = True, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write; what was at `path` is replaced at the end, if nothing is raised before.

    Args:
        path: where.
        durable: whether it must be there after a power cut from then on.
        private: whether its owner alone may read it; else whoever the umask lets.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(
    content: bytes | memoryview | str, path: Path, durable: bool = True, *, private: bool = False
) -> None:
    """Write the whole of a file or nothing; see `new_file`."""
    with new_file(path, durable, private=private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def says_full(text: str) -> bool:
    """Whether the text of an error says that a disk is full."""
    return any(os.strerror(number) in text for number in FULL)
