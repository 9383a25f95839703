"""Fingerprints: short hex digests that name a file by all that determines its content."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LENGTH = 24
"""Hex digits of a fingerprint, 96 bits."""
READ_AT_MOST = 2**30
"""Bytes of a folder whose files are read whenever it is compared, a second or two."""


def fingerprint(determining: Mapping[str, Any]) -> str:
    """The fingerprint of plain values; their order does not matter."""
    canonical = json.dumps(determining, sort_keys=True, default=str)
    return digest(canonical.encode())[:LENGTH]


def digest(content: bytes) -> str:
    """The SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def content_digest(folder: Path) -> str:
    """The SHA-256 of a folder's files by name, size and content, 64 hex digits; no hidden files.

    Of a folder that holds more than `READ_AT_MOST` bytes only names and sizes count.
    """
    files = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            status = path.stat()
            times = status.st_mtime_ns, status.st_ctime_ns
            files.append(("/".join(parts), status.st_size, *times))
    return _content_digest(folder, tuple(sorted(files)))


@functools.lru_cache(maxsize=16)
def _content_digest(folder: Path, files: tuple[tuple[str, int, int, int], ...]) -> str:
    """The digest of files by place, size and times; read once for the same ones."""
    found = hashlib.sha256()
    is_read = sum(size for _, size, *_ in files) <= READ_AT_MOST
    for place, size, *_ in files:
        content = file_digest(folder / place) if is_read else ""
        found.update(f"{place}\0{size}\0{content}\n".encode())
    return found.hexdigest()


def folder_digest(folder: Path) -> str:
    """The SHA-256 of the names, sizes and times of all files beneath a folder, 64 hex digits."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        status, place = file.stat(), file.relative_to(folder)
        found.update(f"{place} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
