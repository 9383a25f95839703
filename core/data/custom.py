"""A dataset of the user's own: any `Dataset`, named `package.module:attribute`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from luceloop.core.data.base import Dataset, DatasetConfig, RealData, quasi_random
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
        if not isinstance(made, Dataset):
            allowed = "must have size, shape, n_classes, draw and classify"
            raise ConfigError("data.name", self.name, allowed)
        return made if isinstance(made, RealData) else CustomData(self.name, made)

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
    """A user's dataset, whose errors become one line that names it."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        self.name, self.dataset = name, dataset
        self.size, self.shape = dataset.size, tuple(dataset.shape)
        self.n_classes = dataset.n_classes

    @property
    def modes(self) -> Tensor | None:
        """The modes that the dataset declares, if it does."""
        modes: Tensor | None = getattr(self.dataset, "modes", None)
        return modes

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """What the user's `draw` returns, on the CPU.

        Raises:
            LoopError: if it raises anything.
        """
        return self._asking(lambda: self.dataset.draw(size, generator).cpu())

    def classify(self, x: Tensor) -> Tensor:
        """What the user's `classify` returns, on the samples' device.

        Raises:
            LoopError: if it raises anything.
        """
        return self._asking(lambda: self.dataset.classify(x).to(x.device))

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
        for u in quasi_random(self.dataset.uniforms, cheap):  # type: ignore[attr-defined]
            yield self._asking(functools.partial(mapped, u))

    def _asking(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except LoopError:
            raise
        except Exception as error:  # the user's code may raise anything
            kind = type(error).__name__
            raise LoopError(f"data {self.name} raised {kind}: {error}") from error
