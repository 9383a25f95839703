"""The key `seeds` as a rule: seeds are added in batches until enough is known.

seeds: {start: 5, until: {metric: reward_mean, half_width: 0.05}, most: 50}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from luceloop.core.config.claims import Iteration
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Finite, Strict

MOST_LOOKS = 100
"""The most times that it is looked whether seeds suffice."""


class WidthGoal(Strict):
    """How narrow the confidence interval of a metric's mean has to be, at every point."""

    metric: str = "reward_mean"
    at: Iteration = "last"
    """The iteration: the last, or its number."""
    half_width: Finite = Field(gt=0)
    """Half the length of the interval, in the metric's unit."""


def _kind(given: Any) -> str | None:
    """Which of the two it is; the names of tags do not show in messages."""
    if isinstance(given, Mapping | WidthGoal):
        return "function-goal"
    return "function-word" if given in ("claims", "best") else None


Until = Annotated[
    Annotated[WidthGoal, Tag("function-goal")]
    | Annotated[Literal["claims", "best"], Tag("function-word")],
    Discriminator(
        _kind,
        custom_error_type="until",
        custom_error_message="must be claims, best, or a mapping with half_width",
    ),
]
"""When a point has enough seeds."""


class SeedRule(Strict):
    """How many seeds a point gets: some to start with, then more until enough is known."""

    start: int = Field(5, ge=3, le=10_000, strict=True)
    """Seeds that every point begins with."""
    until: Until
    """When a point has enough: its interval is narrow, the claims it is part of are decided, or it
    is known whether it is the best one by the objective."""
    most: int = Field(ge=3, le=10_000, strict=True)
    """The most seeds of a point."""
    growth: Finite = Field(1.5, gt=1, le=100)
    """Seeds are multiplied by this, rounded up, each time that more are needed."""

    @model_validator(mode="after")
    def _room(self) -> SeedRule:
        if self.most <= self.start:
            raise ConfigError("most", self.most, f"must be above start={self.start}")
        if len(list(itertools.islice(self._looks(), MOST_LOOKS + 1))) > MOST_LOOKS:
            raise ConfigError("growth", self.growth, f"makes more than {MOST_LOOKS} looks")
        return self

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of seeds at which it is looked whether more are needed, and the most."""
        return tuple(self._looks())

    def _looks(self) -> Iterator[int]:
        yield from itertools.takewhile(lambda count: count < self.most, self._grown())
        yield self.most

    def _grown(self) -> Iterator[int]:
        count = self.start
        while True:
            yield count
            count = max(count + 1, math.ceil(count * self.growth))
