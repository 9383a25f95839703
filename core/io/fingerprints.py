"""Fingerprints: short hex digests that name a file by all that determines its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LENGTH = 24
"""Hex digits of a fingerprint, 96 bits."""


def fingerprint(determining: Mapping[str, Any]) -> str:
    """The fingerprint of plain values; their order does not matter."""
    canonical = json.dumps(determining, sort_keys=True, default=str)
    return digest(canonical.encode())[:LENGTH]


def digest(content: bytes) -> str:
    """The SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    return digest(file.read_bytes())


def folder_digest(folder: Path) -> str:
    """The SHA-256 of the names, sizes and times of all files beneath a folder, 64 hex digits."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        status, place = file.stat(), file.relative_to(folder)
        found.update(f"{place} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
