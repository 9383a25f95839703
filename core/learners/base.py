"""What every learning procedure A offers the loop: fit and sample, R rows at a time.

Axes: R rows (seeds, or whatever else shares one ensemble), N training samples, B drawn samples,
`...` the sample's own shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from luceloop.core.fields import Strict

State = Mapping[str, Any]
"""Nested mappings with string keys whose leaves are tensors with a leading R axis.

Nothing else, so that rows can be split and stacked, and `torch.load(weights_only=True)` reads it.
"""


@dataclass(frozen=True)
class TrainingSet:
    """Training sets of R rows, padded to the longest."""

    samples: Tensor
    """`(R, N, ...)`; of row r, the first `sizes[r]` count."""
    sizes: Tensor
    """int64 `(R,)`, each from 1."""


@dataclass(frozen=True)
class Fitted:
    """A trained model."""

    state: State
    """All that the next fit can start from."""
    loss: Tensor | None
    """Training loss, float64 `(R,)`; None if the learner has none."""

    @classmethod
    def stack(cls, rows: Sequence[Fitted]) -> Fitted:
        """One of all the rows of `rows`, in order."""
        losses = [fitted.loss for fitted in rows if fitted.loss is not None]
        return cls(
            stack_rows([fitted.state for fitted in rows]), torch.cat(losses) if losses else None
        )


class Progress(Protocol):
    """Where a long training notes how far it is."""

    def load(self) -> Mapping[str, Any] | None:
        """What was noted last; None if nothing was."""
        ...

    def save(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """Note `snapshot()`, tensors and plain types, or skip it soon after the last."""
        ...


class Learner(Protocol):
    """A learning procedure. Row r's results depend on row r's inputs and seed alone."""

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Train p_t on `training`: from new weights where `state` is None (p_0), else from it.

        Never changes `state`.
        """
        ...

    def model(self, state: State) -> dict[str, Tensor]:
        """The part of `state` that sampling needs, named tensors with a leading R axis."""
        ...

    def sample(
        self,
        model: Mapping[str, Tensor],
        count: int,
        seeds: Sequence[int],
        iteration: int,
        shard: int,
    ) -> Tensor:
        """Draw `(R, count, ...)` samples, a function of its arguments alone."""
        ...


@runtime_checkable
class PatientLearner(Learner, Protocol):
    """A learner whose training of p_0 takes so long that it must survive interruptions."""

    @property
    def one_by_one(self) -> bool:
        """Whether rows gain nothing by training together: each fills a device."""
        ...

    def fit_initial(
        self, training: TrainingSet, seeds: Sequence[int], progress: Progress | None
    ) -> Fitted:
        """Train p_0, going on where `progress` stands; the result is the same to the bit."""
        ...


class LearnerConfig(Strict, ABC):
    """The part `learner` of a configuration: which one, and what others must know of it."""

    name: str
    has_loss: ClassVar[bool] = True
    """Whether a fit has a training loss to report."""

    @abstractmethod
    def build(self, shape: tuple[int, ...], device: str = "cpu") -> Learner:
        """The learner.

        Args:
            shape: of a sample.
            device: where it trains and samples.

        Raises:
            ConfigError: if the learner does not fit the data or custom code is unusable.
        """

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0; the rest may differ between points."""
        return self.model_dump()

    @property
    def reads_initial(self) -> bool:
        """Whether p_0 is read from the user's file instead of trained."""
        return False


def select_row(state: State, row: int) -> dict[str, Any]:
    """The state of one row, its leading axis kept with length 1."""
    return select_rows(state, slice(row, row + 1))


def select_rows(state: State, rows: slice) -> dict[str, Any]:
    """The state of some rows, apart from that of the others."""
    return {
        key: select_rows(value, rows) if isinstance(value, Mapping) else value[rows].clone()
        for key, value in state.items()
    }


def stack_rows(states: Sequence[State]) -> dict[str, Any]:
    """One state of all the rows of `states`, in order."""
    return {
        key: stack_rows([state[key] for state in states])
        if isinstance(value, Mapping)
        else torch.cat([state[key] for state in states])
        for key, value in states[0].items()
    }


def to_device(state: State, device: str) -> dict[str, Any]:
    """The same state on another device."""
    return {
        key: to_device(value, device) if isinstance(value, Mapping) else value.to(device)
        for key, value in state.items()
    }
