"""What a dataset is: p_ref as something that each seed draws its own training samples from.

`Dataset` is what users write. `RealData` is what the loop works with: a dataset that also tells its
law and, where it has any, its labelled images. `DatasetConfig` is the part of a configuration that
builds one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.fields import PositiveInt, Strict

MOST_CLASSES = 1000
"""The most classes a dataset may have; each is a metric of every seed and iteration."""
QUASI_SAMPLE, SAMPLE = 2**17, 2**14
"""Points of a quasi-random and of a random sample of the real data."""
CHUNK = 2**13
"""Samples that are held at a time."""


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


class RealData(ABC):
    """A dataset as the loop sees it."""

    size: int
    """Real samples that train p_0, for each seed."""
    shape: tuple[int, ...]
    """Shape of one sample."""
    n_classes: int = 0
    """Classes or modes that `classify` tells apart; 0 where it tells none."""
    finite: bool = False
    """Whether seeds draw without replacement from a fixed set, which is all of `law_samples`."""

    @abstractmethod
    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """`size` real samples `(size, *shape)`, float32, a function of the generator alone."""

    @abstractmethod
    def classify(self, x: Tensor) -> Tensor:
        """Class of each sample: `(B, *shape)` to int64 `(B,)`; called where there are classes."""

    def across(self, x: Tensor) -> Tensor:
        """Coordinates in which a class is wide or narrow: `(B, *shape)` to `(B, W)`.

        The sample itself, unless classes are curved.
        """
        return x.flatten(1)

    @property
    def modes(self) -> Tensor | None:
        """Points that rewards may be centred at `(modes, d)`; None if the data declares none."""
        return None

    @property
    def images(self) -> LabelledImages | None:
        """All real images with their labels; None where samples are no labelled images."""
        return None

    @property
    def class_names(self) -> list[str]:
        """What the classes of labelled images are called; empty where there are none."""
        return []

    def for_classifier(self) -> tuple[LabelledImages, LabelledImages]:
        """Labelled images that a classifier trains on, and those it is judged by."""
        raise NotImplementedError("this data has no labelled images")

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """Samples `(N, *shape)` in chunks that stand for the law, the same ones every time.

        Args:
            cheap: whether scoring costs so little that there may be more of them.
        """
        count = min(self.size, CHUNK)
        for chunk in range(math.ceil(SAMPLE / count)):
            yield self.draw(count, rng.stream(0, "law", shard=chunk))


class QuasiRandom(RealData):
    """A dataset whose law is a known map of the unit cube, so that any points can be mapped."""

    uniforms: int
    """Independent uniform numbers that make a sample, D."""

    @abstractmethod
    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, *shape)`, float32, of uniform numbers `(N, D)` in (0, 1), float64."""

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """A scrambled Sobol sequence, mapped."""
        return map(self.from_uniform, quasi_random(self.uniforms, cheap))


def quasi_random(uniforms: int, cheap: bool) -> Iterator[Tensor]:
    """Chunks `(N, D)` of a scrambled Sobol sequence of D numbers, float64."""
    engine: Any = torch.quasirandom.SobolEngine
    sobol = engine(uniforms, scramble=True, seed=0)
    for _ in range((QUASI_SAMPLE if cheap else SAMPLE) // CHUNK):
        yield sobol.draw(CHUNK, dtype=torch.float64)


def normal_quantile(u: Tensor) -> Tensor:
    """Standard normal numbers of uniform ones; those of 0 and 1 are cut off at 8.2."""
    normal: Tensor = torch.special.ndtri(u.clamp(1e-16, 1 - 1e-16))
    return normal


class DatasetConfig(Strict, ABC):
    """The part `data` of a configuration: which dataset, and what others must know of it."""

    name: str
    size: PositiveInt | None = None
    """Real samples of each seed; all there are if not given."""

    @abstractmethod
    def build(self) -> RealData:
        """The dataset.

        Raises:
            ConfigError: if a file or module is missing or does not hold a dataset.
        """

    def sample_size(self, available: int) -> int:
        """Real samples that each seed draws, without building the dataset.

        Args:
            available: samples of a fixed set.
        """
        return self.size or available

    def identity(self) -> dict[str, Any]:
        """What determines the samples, the contents of files included; names cached p_0."""
        return self.model_dump()

    def folders(self) -> tuple[str, ...]:
        """The folders whose files determine the samples, absolute paths."""
        return ()

    def class_names(self) -> list[str]:
        """What the classes are called, as far as it is known without reading data."""
        return []

    def law_identity(self) -> dict[str, Any]:
        """What determines the law: points whose data agrees in it share one in a process."""
        return self.model_dump()
