"""Real data: p_ref as something each seed draws its own training samples from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from luceloop.core import images, plugins
from luceloop.core.config import (
    Cifar10Config,
    CustomDataConfig,
    DataConfig,
    DigitsConfig,
    EightGaussiansConfig,
    ImageFolderConfig,
    NpzConfig,
    TwoMoonsConfig,
)
from luceloop.core.errors import ConfigError
from luceloop.core.storage import local_file

MOST_CLASSES = 1000
"""Each class is a metric of every seed and iteration."""


@runtime_checkable
class Dataset(Protocol):
    """The law of the real data, p_ref, and its classes if it has any."""

    @property
    def size(self) -> int:
        """Real samples that train p_0, for each seed."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        ...

    @property
    def n_classes(self) -> int:
        """Classes or modes; 0 where the data has none."""
        ...

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """`size` real samples `(size, *shape)`, float32, a function of the generator alone."""
        ...

    def classify(self, x: Tensor) -> Tensor:
        """Class of each sample: `(B, *shape)` to int64 `(B,)`; called where there are classes."""
        ...


@runtime_checkable
class QuasiRandom(Protocol):
    """A dataset whose law is known as a map of the unit cube, so that any points can be mapped."""

    @property
    def uniforms(self) -> int:
        """Independent uniform numbers that make a sample, D."""
        ...

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, *shape)`, float32, of uniform numbers `(N, D)` in (0, 1), float64."""
        ...


@dataclass(frozen=True)
class EightGaussians:
    """Equal mixture of eight isotropic Gaussians; mode i sits at angle 2πi/8.

    With its default std, 0.1^¼ ≈ 0.562, it is the law torchcfm's `sample_8gaussians` draws: its
    `var=0.1` enters as a covariance of √0.1.
    """

    size: int
    radius: float
    std: float
    shape: tuple[int, ...] = (2,)
    n_classes: int = 8
    uniforms: int = 3

    @property
    def modes(self) -> Tensor:
        """Centres of the Gaussians `(8, 2)`."""
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return (self.radius * torch.stack([angle.cos(), angle.sin()], 1)).float()

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Samples `(size, 2)`."""
        mode = torch.randint(8, (size,), generator=generator)
        return self.modes[mode] + self.std * torch.randn(size, 2, generator=generator)

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, 2)` of a mode and two normal coordinates `(N, 3)`."""
        mode = (8 * u[:, 0]).long().clamp_max(7)
        return (self.modes[mode] + self.std * _normal(u[:, 1:])).float()

    def classify(self, x: Tensor) -> Tensor:
        """Index of the nearest mode `(B,)`."""
        return torch.cdist(x, self.modes.to(x.device)).argmin(1)


@dataclass(frozen=True)
class TwoMoons:
    """Two half circles of radius 1: the upper about (0, 0), the lower about (1, ½).

    The same law as scikit-learn's `make_moons`, each moon with probability ½.
    """

    size: int
    noise: float
    shape: tuple[int, ...] = (2,)
    n_classes: int = 2
    uniforms: int = 4

    @property
    def modes(self) -> Tensor:
        """The four tips `(4, 2)`: upper left and right, lower left and right."""
        return torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [2.0, 0.5]])

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Samples `(size, 2)`."""
        lower = torch.randint(2, (size,), generator=generator).bool()
        angle = math.pi * torch.rand(size, generator=generator)
        return _on_moon(lower, angle) + self.noise * torch.randn(size, 2, generator=generator)

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, 2)` of a moon, an angle and two normal coordinates `(N, 4)`."""
        on_moon = _on_moon(u[:, 0] >= 0.5, math.pi * u[:, 1])
        return (on_moon + self.noise * _normal(u[:, 2:])).float()

    def classify(self, x: Tensor) -> Tensor:
        """0 where the upper moon is nearer, 1 where the lower is `(B,)`."""
        origin, turn = x.new_tensor([0.0, 0.0]), x.new_tensor([1.0, 0.5])
        upper = _distance_to_half_circle(x - origin)
        lower = _distance_to_half_circle(turn - x)
        return (lower < upper).long()


def _on_moon(lower: Tensor, angle: Tensor) -> Tensor:
    """Points `(B, 2)` of the lower or upper moon at an angle."""
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1)


def _normal(u: Tensor) -> Tensor:
    """Standard normal numbers of uniform ones; those of 0 and 1 are cut off at 8.2."""
    normal: Tensor = torch.special.ndtri(u.clamp(1e-16, 1 - 1e-16))
    return normal


def _distance_to_half_circle(x: Tensor) -> Tensor:
    """Distance `(B,)` of points `(B, 2)` to the upper half of the unit circle."""
    on_arc = (x.norm(dim=1) - 1).abs()
    nearest_tip = torch.stack([x[:, 0].abs() - 1, x[:, 1]], 1).norm(dim=1)
    return torch.where(x[:, 1] >= 0, on_arc, nearest_tip)


class ArrayData:
    """A fixed set of real samples; each seed draws its own subset without replacement.

    Labels, where given, make the classes: a sample has the class of the nearest labelled one.
    """

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


def _load_npz(config: NpzConfig) -> ArrayData:
    arrays = _read_arrays(config.path)
    if "x" not in arrays:
        raise ConfigError("data.path", config.path, f"needs an array 'x'; it holds {list(arrays)}")
    x, labels = arrays["x"], arrays.get("y")
    real = np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)
    with np.errstate(over="ignore"):  # an overflow is refused as infinite
        x = x.astype(np.float32) if real else x
    if not real or x.ndim < 2 or not len(x) or not np.isfinite(x).all():
        raise ConfigError("data.path", config.path, "'x' must be finite numbers of shape (N, ...)")
    if labels is not None:
        whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == x.shape[:1]
        if not whole or not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
            allowed = f"'y' must be integers from 0 to {MOST_CLASSES - 1}, one a sample"
            raise ConfigError("data.path", config.path, allowed)
        labels = labels.astype(np.int64)
    size = config.size or len(x)
    if size > len(x):
        raise ConfigError("data.size", size, f"must be at most {len(x)}, the samples in the file")
    return ArrayData(torch.from_numpy(x), labels, size)


def _read_arrays(path: str) -> dict[str, np.ndarray]:
    copy = local_file("data.path", path)
    unreadable = (ValueError, OSError, AttributeError, TypeError, EOFError, BadZipFile)
    try:
        with np.load(copy, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except unreadable as error:
        raise ConfigError("data.path", path, f"not a readable .npz file: {error}") from error


def build_dataset(config: DataConfig) -> Dataset:
    """The dataset a configuration names.

    Raises:
        ConfigError: if a file or module is missing or does not hold a dataset.
    """
    match config:
        case EightGaussiansConfig():
            return EightGaussians(config.size, config.radius, config.std)
        case TwoMoonsConfig():
            return TwoMoons(config.size, config.noise)
        case NpzConfig():
            return _load_npz(config)
        case DigitsConfig():
            return images.load_digits(config)
        case Cifar10Config():
            return images.load_cifar10(config)
        case ImageFolderConfig():
            return images.load_image_folder(config)
        case CustomDataConfig():
            dataset = plugins.build("data.name", config.name, {"size": config.size} | config.args)
            if not isinstance(dataset, Dataset):
                raise ConfigError(
                    "data.name",
                    config.name,
                    "must have size, shape, n_classes, draw and classify",
                )
            return dataset
