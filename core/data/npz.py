"""The dataset `npz`: a user's own samples in a file of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from luceloop.core.data.base import CHUNK, MOST_CLASSES, DatasetConfig, RealData
from luceloop.core.errors import ConfigError
from luceloop.core.fields import File, PositiveInt
from luceloop.core.io.arrays import read_arrays
from luceloop.core.io.fingerprints import file_digest
from luceloop.core.io.places import local_file


class NpzConfig(DatasetConfig):
    """A user's own samples: array `x` (N, ...) and, if there are classes, integers `y` (N,)."""

    name: Literal["npz"] = "npz"
    path: File
    """The .npz file."""
    size: PositiveInt | None = None
    """Real samples of each seed, drawn without replacement; all of the file if not given."""

    def build(self) -> ArrayData:
        """The samples of the file.

        Raises:
            ConfigError: if there is no such file, or it does not hold what it must.
        """
        copy = local_file("data.path", self.path)
        try:
            arrays, names = read_arrays(copy, ("x", "y"))
        except ValueError as error:
            raise ConfigError("data.path", self.path, str(error)) from error
        if "x" not in arrays:
            allowed = f"needs an array 'x'; it holds {names[:20]}"
            raise ConfigError("data.path", self.path, allowed)
        x = _samples(self.path, arrays["x"])
        labels = _labels(self.path, arrays["y"], len(x)) if "y" in arrays else None
        size = self.size or len(x)
        if size > len(x):
            allowed = f"must be at most {len(x)}, the samples in the file"
            raise ConfigError("data.size", size, allowed)
        return ArrayData(torch.from_numpy(x), labels, size)

    def identity(self) -> dict[str, Any]:
        """The content of the file, wherever it lies."""
        content = file_digest(local_file("data.path", self.path))
        return self.model_dump() | {"path": content}

    def law_identity(self) -> dict[str, Any]:
        """The file, and when it was last changed."""
        copy = local_file("data.path", self.path)
        return self.model_dump() | {"changed": [str(copy), copy.stat().st_mtime_ns]}


class ArrayData(RealData):
    """A fixed set of real samples; each seed draws its own subset without replacement.

    Labels, where given, make the classes: a sample has the class of the nearest labelled one.
    """

    finite = True

    def __init__(self, x: Tensor, labels: np.ndarray | None, size: int) -> None:
        self.x, self.size = x, size
        self.shape = tuple(x.shape[1:])
        self.n_classes = 0 if labels is None else int(labels.max()) + 1
        self._labels = labels
        self._tree = None if labels is None else cKDTree(x.flatten(1).numpy())

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """A subset `(size, *shape)`."""
        return self.x[torch.randperm(len(self.x), generator=generator)[:size]]

    def classify(self, x: Tensor) -> Tensor:
        """Label of the nearest real sample `(B,)`."""
        assert self._tree is not None and self._labels is not None
        _, nearest = self._tree.query(x.flatten(1).cpu().numpy())
        return torch.from_numpy(self._labels[nearest]).to(x.device)

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """All samples: the law is exact."""
        yield from torch.split(self.x, CHUNK)


def _samples(path: str, x: np.ndarray) -> np.ndarray:
    """Finite samples `(N, ...)` as float32."""
    real = np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)
    with np.errstate(over="ignore"):  # an overflow is refused as infinite
        x = x.astype(np.float32) if real else x
    if not real or x.ndim < 2 or not x.size or not np.isfinite(x).all():
        raise ConfigError("data.path", path, "'x' must be finite numbers of shape (N, ...)")
    return x


def _labels(path: str, labels: np.ndarray, count: int) -> np.ndarray:
    """Classes `(N,)` as int64."""
    whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (count,)
    if not whole or not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        allowed = f"'y' must be integers from 0 to {MOST_CLASSES - 1}, one a sample"
        raise ConfigError("data.path", path, allowed)
    return labels.astype(np.int64)
