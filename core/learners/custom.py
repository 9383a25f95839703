"""A learner of the user's own: any `Learner`, named `package.module:attribute`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import luceloop
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.fields import Custom
from luceloop.core.io import plugins
from luceloop.core.learners.base import (
    Fitted,
    Learner,
    LearnerConfig,
    PatientLearner,
    Progress,
    State,
    TrainingSet,
)


class CustomLearnerConfig(Custom, LearnerConfig):
    """A learner of the user's own; see `luceloop.Learner`."""

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> Learner:
        """What the user's class or function makes of `args`, `shape` and `device`.

        Raises:
            ConfigError: if it cannot be imported or made, or is no learner.
        """
        args = self.args | {"shape": shape, "device": device}
        learner: Learner = plugins.build("learner.name", self.name, args)
        with plugins.asking("learner.name", self.name):
            missing = [m for m in ("fit", "model", "sample") if not hasattr(learner, m)]
            is_patient = isinstance(learner, PatientLearner)
        if missing:
            raise ConfigError("learner.name", self.name, f"has no method {missing[0]}")
        if type(learner).__module__.startswith(f"{luceloop.__name__}."):
            return learner
        checked = CheckedPatientLearner if is_patient else CheckedLearner
        return checked(self.name, learner, shape)

    def initial_fit(self) -> dict[str, Any]:
        """The settings and the source file."""
        return self.model_dump() | {"source": plugins.source_digest("learner.name", self.name)}


class CheckedLearner:
    """A user's learner, held to its contract; its errors become one line that names it."""

    def __init__(self, name: str, learner: Any, shape: tuple[int, ...]) -> None:
        """Take a learner of samples of `shape`."""
        self.name, self.learner, self.shape = name, learner, shape

    def fit(
        self, state: State | None, training: TrainingSet, seeds: Sequence[int], iteration: int
    ) -> Fitted:
        """See `Learner.fit`.

        Raises:
            LoopError: if the user's code raises anything, or returns no `Fitted` of these rows.
        """
        with plugins.running(f"learner {self.name}"):
            found = self.learner.fit(state, training, seeds, iteration)
        return self._checked(found, len(seeds))

    def model(self, state: State) -> dict[str, Tensor]:
        """See `Learner.model`.

        Raises:
            LoopError: if the user's code raises anything.
        """
        with plugins.running(f"learner {self.name}"):
            return dict(self.learner.model(state))

    def sample(
        self,
        model: Mapping[str, Tensor],
        count: int,
        seeds: Sequence[int],
        iteration: int,
        shard: int,
    ) -> Tensor:
        """See `Learner.sample`.

        Raises:
            LoopError: if the user's code raises anything, or returns anything but these samples.
        """
        with plugins.running(f"learner {self.name}"):
            found = self.learner.sample(model, count, seeds, iteration, shard)
        wanted = (len(seeds), count, *self.shape)
        if not isinstance(found, Tensor) or found.shape != wanted or not found.is_floating_point():
            kind = type(found).__name__
            if isinstance(found, Tensor):
                kind = f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
            raise self._broken(f"sampled {kind}; samples are floating numbers of shape {wanted}")
        return found

    def _checked(self, found: object, rows: int) -> Fitted:
        if not isinstance(found, Fitted):
            raise self._broken(f"fitted {type(found).__name__}; it must return a luceloop.Fitted")
        loss, state = found.loss, found.state
        if loss is not None and (not isinstance(loss, Tensor) or loss.shape != (rows,)):
            raise self._broken(f"returned a loss that is no tensor of shape ({rows},)")
        odd = "" if isinstance(state, Mapping) else type(state).__name__
        odd = odd or next(_not_rows(state, rows), "")
        if odd:
            allowed = f"a state holds tensors whose first axis is {rows}, by name"
            raise self._broken(f"returned a state with {odd}; {allowed}")
        return found

    def _broken(self, what: str) -> LoopError:
        return LoopError(f"learner {self.name} {what}")


class CheckedPatientLearner(CheckedLearner):
    """The same of a learner whose training of p_0 goes on after interruptions."""

    @property
    def one_by_one(self) -> bool:
        """See `PatientLearner.one_by_one`.

        Raises:
            LoopError: if the user's code raises anything.
        """
        with plugins.running(f"learner {self.name}"):
            return bool(self.learner.one_by_one)

    def fit_initial(
        self, training: TrainingSet, seeds: Sequence[int], progress: Progress | None
    ) -> Fitted:
        """See `PatientLearner.fit_initial`.

        Raises:
            LoopError: if the user's code raises anything, or returns no `Fitted` of these rows.
        """
        with plugins.running(f"learner {self.name}"):
            found = self.learner.fit_initial(training, seeds, progress)
        return self._checked(found, len(seeds))


def _not_rows(state: Mapping[str, Any], rows: int) -> Iterator[str]:
    """What of a state is no tensor of so many rows, in words."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _not_rows(value, rows)
        elif not isinstance(value, Tensor) or value.shape[:1] != torch.Size([rows]):
            yield f"{name}: {type(value).__name__}"
