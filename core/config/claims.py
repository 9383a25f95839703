"""The part `claims` of a configuration: what a sweep is run to find out, each as a test.

    claims:
      - {says: "Real data hold the reward back.", metric: reward_mean,
         point: {lam: 1}, below: {point: {lam: .inf}}}

A claim is about the points that have the values of `point`, each by itself. It compares a metric of
theirs with a number, with the forecast, or with another point or iteration, all else being equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from luceloop.core.config.search import by_full_name
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Finite, Strict

Iteration = Literal["last"] | Annotated[int, Field(ge=0, strict=True)]
"""The last iteration, or its number. The best of several would be chosen by the noise it is in."""


def _long_keys(given: Any) -> Any:
    """Searched keys by their full names."""
    if not isinstance(given, Mapping):
        return given
    return by_full_name((str(key), value) for key, value in given.items())


Values = Annotated[dict[str, Any], BeforeValidator(_long_keys)]
"""Values of searched keys; a point has to have them all."""


class Target(Strict):
    """Another point or iteration that a claim compares with; what is not given is the same."""

    point: Values = Field(default_factory=dict)
    """Values of searched keys that differ."""
    at: Iteration | None = None
    """The iteration, if another."""

    @model_validator(mode="after")
    def _something(self) -> Target:
        if not self.point and self.at is None:
            raise ValueError("must name another point or another iteration (at)")
        return self


def _kind(given: Any) -> str | None:
    """Which of the three it is; the names of tags do not show in messages."""
    if isinstance(given, Mapping | Target):
        return "function-target"
    if isinstance(given, str):
        return "function-forecast" if given == "forecast" else None
    return "function-number"


Against = Annotated[
    Annotated[Finite, Tag("function-number")]
    | Annotated[Literal["forecast"], Tag("function-forecast")]
    | Annotated[Target, Tag("function-target")],
    Discriminator(
        _kind,
        custom_error_type="against",
        custom_error_message="must be a number, forecast, or another point or iteration",
    ),
]
"""A number, the forecast of a perfect learner at n=∞, or something that is measured, too."""


class ClaimConfig(Strict):
    """One thing that a sweep is run to find out."""

    says: str = Field(min_length=1)
    """The claim as a sentence."""
    metric: str = "reward_mean"
    at: Iteration = "last"
    point: Values = Field(default_factory=dict)
    """Values of searched keys of the points that it is about; all points if not given."""
    above: Against | None = None
    """What the metric is above of."""
    below: Against | None = None
    """What it is below of."""
    near: Against | None = None
    """What it is near to, by less than `within`."""
    by: Finite = Field(0.0, ge=0)
    """By how much above or below it is at least."""
    within: Finite | None = Field(None, gt=0)
    """How near."""
    of: str = ""
    """Where it is claimed, such as the figure of a paper."""

    @model_validator(mode="after")
    def _one(self) -> ClaimConfig:
        given = [name for name in ("above", "below", "near") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("takes exactly one of above, below and near")
        if (self.near is None) != (self.within is None):
            raise ConfigError("within", self.within, "goes with near, which needs it")
        return self

    @property
    def relation(self) -> Literal["above", "below", "near"]:
        """How the metric relates to what it is compared with."""
        if self.above is not None:
            return "above"
        return "below" if self.below is not None else "near"

    @property
    def against(self) -> Against:
        """What the metric is compared with."""
        for found in (self.above, self.below, self.near):
            if found is not None:
                return found
        raise AssertionError("checked when it was built")
