"""A learner of the user's own: any `Learner`, named `package.module:attribute`."""

from __future__ import annotations

from typing import Any

from luceloop.core.errors import ConfigError
from luceloop.core.fields import Custom
from luceloop.core.io import plugins
from luceloop.core.learners.base import Learner, LearnerConfig


class CustomLearnerConfig(Custom, LearnerConfig):
    """A learner of the user's own; see `luceloop.Learner`."""

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> Learner:
        """What the user's class or function makes of `args`, `shape` and `device`.

        Raises:
            ConfigError: if it cannot be imported or made, or is no learner.
        """
        args = self.args | {"shape": shape, "device": device}
        learner: Learner = plugins.build("learner.name", self.name, args)
        missing = [m for m in ("fit", "model", "sample") if not hasattr(learner, m)]
        if missing:
            raise ConfigError("learner.name", self.name, f"has no method {missing[0]}")
        return learner

    def initial_fit(self) -> dict[str, Any]:
        """The settings and the source file."""
        return self.model_dump() | {"source": plugins.source_digest("learner.name", self.name)}
