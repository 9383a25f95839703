"""A dataset of the user's own: any `Dataset`, named `package.module:attribute`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

import luceloop
from luceloop.core.data.base import MOST_CLASSES, Dataset, DatasetConfig, RealData, quasi_random
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.fields import Custom, PositiveInt
from luceloop.core.io import plugins

Result = TypeVar("Result")


class CustomDataConfig(Custom, DatasetConfig):
    """A dataset of the user's own; see `luceloop.Dataset`."""

    size: PositiveInt = 5000
    """Real samples drawn for each seed."""

    def build(self) -> RealData:
        """What the user's class or function makes of `size` and `args`.

        Raises:
            ConfigError: if it cannot be imported or made, or is no dataset.
        """
        made = plugins.build("data.name", self.name, {"size": self.size} | self.args)
        with plugins.asking("data.name", self.name):
            is_dataset = isinstance(made, Dataset)
        if not is_dataset:
            allowed = "must have size, shape, n_classes, draw and classify"
            raise ConfigError("data.name", self.name, allowed)
        if isinstance(made, RealData):
            ours = type(made).__module__.startswith(f"{luceloop.__name__}.")
            return made if ours else CustomRealData(self.name, made)
        return CustomData(self.name, made)

    def sample_size(self, available: int) -> int:
        """What the user's dataset says, whatever it makes of `size`.

        Raises:
            ConfigError: if it cannot be imported or made, or is no dataset.
        """
        return self.build().size

    def identity(self) -> dict[str, Any]:
        """The settings and the source file."""
        return self.model_dump() | {"source": plugins.source_digest("data.name", self.name)}


class CustomData(RealData):
    """A user's dataset, held to its contract; its errors become one line that names it."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        """Ask the dataset what it is.

        Raises:
            ConfigError: if it does not tell, or its size, shape or classes cannot be.
        """
        self.name, self.dataset = name, dataset
        with plugins.asking("data.name", name):
            self.size, self.shape = dataset.size, tuple(dataset.shape)
            self.n_classes = dataset.n_classes
        refused = ""
        if not all(_is_whole(number) for number in (self.size, *self.shape)) or not self.shape:
            refused = "size and all of shape must be whole numbers from 1"
        if not _is_whole(self.n_classes, 0) or self.n_classes > MOST_CLASSES:
            refused = f"n_classes must be a whole number from 0 to {MOST_CLASSES}"
        if refused:
            raise ConfigError("data.name", name, refused)

    @property
    def modes(self) -> Tensor | None:
        """The modes that the dataset declares, if it does.

        Raises:
            LoopError: if it raises anything.
        """
        modes: Tensor | None = self._asking(lambda: getattr(self.dataset, "modes", None))
        return modes

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """What the user's `draw` returns, on the CPU.

        Raises:
            LoopError: if it raises anything, or returns anything but so many samples.
        """
        return self._samples(lambda: self.dataset.draw(size, generator), size)

    def classify(self, x: Tensor) -> Tensor:
        """What the user's `classify` returns, on the samples' device.

        Raises:
            LoopError: if it raises anything, or returns anything but a class of each sample.
        """
        found = self._asking(lambda: self.dataset.classify(x))
        whole = isinstance(found, Tensor) and found.dtype == torch.int64
        if not whole or found.shape != x.shape[:1]:
            allowed = f"classes are int64 of shape ({len(x)},)"
            raise self._broken(f"classified samples by {_kind(found)}; {allowed}")
        found = found.to(x.device)
        outside = found[(found < 0) | (found >= self.n_classes)]
        if len(outside):
            allowed = f"classes are from 0 to {self.n_classes - 1}"
            raise self._broken(f"returned class {int(outside[0])}; {allowed}")
        return found

    def across(self, x: Tensor) -> Tensor:
        """What the user's `across` returns, on the samples' device; all coordinates without one.

        Raises:
            LoopError: if it raises anything.
        """
        own: Callable[[Tensor], Tensor] | None = getattr(self.dataset, "across", None)
        if own is None:
            return super().across(x)
        return self._asking(lambda: own(x).to(x.device))

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """A mapped Sobol sequence where the dataset has `uniforms` and `from_uniform`, else draws.

        Raises:
            LoopError: if the user's code raises anything.
        """
        mapped = getattr(self.dataset, "from_uniform", None)
        if mapped is None:
            yield from super().law_samples(cheap)
            return
        uniforms: int = self._asking(lambda: self.dataset.uniforms)  # type: ignore[attr-defined]
        for u in quasi_random(uniforms, cheap):
            yield self._samples(functools.partial(mapped, u), len(u))

    def _samples(self, draw: Callable[[], Tensor], count: int) -> Tensor:
        """Samples `(count, *shape)` that the user's code returns, float32 on the CPU."""
        found = self._asking(draw)
        is_real = (
            isinstance(found, Tensor) and not found.dtype.is_complex and not found.is_quantized
        )
        if not is_real or found.shape != (count, *self.shape):
            allowed = f"samples are real numbers of shape {(count, *self.shape)}"
            raise self._broken(f"returned {_kind(found)}; {allowed}")
        return self._asking(lambda: found.detach().to("cpu", torch.float32))

    def _asking(self, call: Callable[[], Result]) -> Result:
        with plugins.running(f"data {self.name}"):
            return call()

    def _broken(self, what: str) -> LoopError:
        return LoopError(f"data {self.name} {what}")


class CustomRealData(CustomData):
    """A user's dataset of all that ours tell, images or a law of its own among it."""

    dataset: RealData

    def __init__(self, name: str, dataset: RealData) -> None:
        """Ask the dataset what it is.

        Raises:
            ConfigError: if it does not tell, or its size, shape or classes cannot be.
        """
        super().__init__(name, dataset)
        with plugins.asking("data.name", name):
            self.finite = bool(dataset.finite)

    @property
    def images(self) -> LabelledImages | None:
        """The dataset's, if it has any."""
        return self._asking(lambda: self.dataset.images)

    @property
    def class_names(self) -> list[str]:
        """The dataset's."""
        return self._asking(lambda: list(self.dataset.class_names))

    def for_classifier(self) -> tuple[LabelledImages, LabelledImages]:
        """The dataset's."""
        return self._asking(self.dataset.for_classifier)

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """The dataset's.

        Raises:
            LoopError: if the user's code raises anything.
        """
        chunks = self._asking(lambda: iter(self.dataset.law_samples(cheap)))
        while (chunk := self._asking(lambda: next(chunks, None))) is not None:
            yield self._samples(functools.partial(Tensor.cpu, chunk), len(chunk))


def _is_whole(number: object, least: int = 1) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


def _kind(found: object) -> str:
    """What was returned, in words."""
    if isinstance(found, Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    return type(found).__name__
