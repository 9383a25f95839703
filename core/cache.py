"""Trained p_0, one file per seed, shared by all points and sweeps that would train the same.

A file's name is the fingerprint of everything that determines its content. Trials that need the
same models wait for one another, so nothing is trained twice; a killed trial leaves no half file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from filelock import FileLock

from core import plugins
from core.config import (
    Cifar10Config,
    Config,
    CustomDataConfig,
    DataConfig,
    ImageFolderConfig,
    NpzConfig,
)
from core.files import new_file
from core.learners.base import Fitted, select_row, stack_rows

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised whenever the same configuration would train to other bits."""


def fingerprint(config: Config, device: str) -> str:
    """Hex digest of all that determines the trained p_0 of a seed, but for the seed.

    Other points of a sweep (β, λ, K, the reward, the length of the loop) share it.
    """
    determining = {
        "format": FORMAT,
        "torch": torch.__version__,
        "device": torch.device(device).type,
        "threads": config.resources.threads,
        "data": data_identity(config.data),
        "learner": config.learner.initial_fit(),
    }
    canonical = json.dumps(determining, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def data_identity(config: DataConfig) -> dict[str, Any]:
    """What determines a dataset's samples, its files' contents included."""
    identity: dict[str, Any] = config.model_dump()
    match config:
        case NpzConfig(path=path):
            identity["path"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        case CustomDataConfig(name=name):
            identity["source"] = plugins.source_digest("data.name", name)
        case Cifar10Config():
            identity |= {"root": None, "download": None}  # one and the same wherever it lies
        case ImageFolderConfig(root=root):
            identity["root"] = _folder_digest(Path(root))
    return identity


def _folder_digest(folder: Path) -> str:
    """Of the names, sizes and times of all files."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = file.stat()
        place = file.relative_to(folder)
        digest.update(f"{place} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class InitialModels:
    """The cache of trained p_0 in one folder."""

    folder: Path

    def get(
        self,
        key: str,
        seeds: Sequence[int],
        train: Callable[[list[int]], Fitted],
    ) -> Fitted:
        """p_0 of `seeds`, training those that are missing in one ensemble.

        Args:
            key: from `fingerprint`.
            seeds: R seeds.
            train: trains p_0 of the rows (positions in `seeds`) it is given.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self._path(key, seed) for seed in seeds]
        with FileLock(self.folder / f"p0-{key}.lock"):
            contents = [read(path) for path in paths]
            missing = [row for row, content in enumerate(contents) if content is None]
            if missing:
                fitted = train(missing)
                for position, row in enumerate(missing):
                    loss = None if fitted.loss is None else fitted.loss[position : position + 1]
                    content = {"state": select_row(fitted.state, position), "loss": loss}
                    save_atomically(content, paths[row])
                    contents[row] = read(paths[row])
        found = [content for content in contents if content is not None]
        assert len(found) == len(seeds)
        losses = [content["loss"] for content in found]
        loss = None if losses[0] is None else torch.cat(losses)
        return Fitted(stack_rows([content["state"] for content in found]), loss)

    def _path(self, key: str, seed: int) -> Path:
        return self.folder / f"p0-{key}-seed{seed}.pt"


def read(path: Path) -> dict[str, Any] | None:
    """What is cached there; None if nothing is, or nothing that can be read: it is made again."""
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file can fail in any way
        logger.warning("training again what %s held, which cannot be read: %s", path, error)
        return None
    return content


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` that leaves either the whole file or none."""
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
