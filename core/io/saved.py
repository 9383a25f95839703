"""Files of tensors: written whole or not at all, and read without unpickling any code."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from luceloop.core.io.files import new_file
from luceloop.core.io.places import Folder, open_whole, write_whole

logger = logging.getLogger(__name__)


def read_saved(path: Folder) -> dict[str, Any] | None:
    """What was saved there; None if nothing was, or nothing that can be read: it is made again."""
    try:
        file = open_whole(path)
    except FileNotFoundError:
        return None
    with file:
        try:
            content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged file can fail in any way
            logger.warning("training again what %s held, which cannot be read: %s", path, error)
            return None
    return content


def save_atomically(content: Any, path: Folder) -> None:
    """Save tensors and plain types as `torch.save` does: the whole file or none."""
    if not isinstance(path, Path):
        memory = io.BytesIO()
        torch.save(content, memory)
        write_whole(memory.getbuffer(), path)
        return
    with new_file(path) as file:
        disk = _Disk(file)
        try:
            torch.save(content, cast(Any, disk))
        except RuntimeError:
            if disk.error is not None:
                raise disk.error from None
            raise


class _Disk:
    """A file for `torch.save`, which raises its own error where the disk's would tell more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
