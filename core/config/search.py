"""The part `search` of a configuration: which points a sweep has, and what they are judged by."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from luceloop.core.fields import Finite, PositiveInt, Strict

SHORT_KEYS = {"beta": "curation.beta", "k": "curation.k"}
"""Names that searches and overrides may use for the keys every sweep varies."""

MOST_POINTS = 100_000
"""Points of a sweep; each is a trial, and a run of the tracking store."""

NOT_SEARCHED = ("search", "seeds", "name", "description", "resources", "budget", "notify")
"""Keys that are the same for every point."""


class Dimension(Strict):
    """The values a searched key takes: exactly one of the fields."""

    grid: list[Any] | None = Field(None, min_length=1)
    choice: list[Any] | None = Field(None, min_length=1)
    uniform: tuple[Finite, Finite] | None = None
    loguniform: tuple[Finite, Finite] | None = None
    integers: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _one(self) -> Dimension:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"takes exactly one of {', '.join(type(self).model_fields)}")
        if self.values is None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"{given[0]} takes [low, high] with low < high")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError("loguniform takes low > 0")
        return self

    @property
    def values(self) -> list[Any] | None:
        """The listed values; None for a range."""
        return self.grid if self.grid is not None else self.choice

    @property
    def bounds(self) -> tuple[float, float]:
        """Both ends of a range."""
        bounds = self.uniform or self.loguniform or self.integers
        assert bounds is not None
        return bounds


class ObjectiveConfig(Strict):
    """The number a search optimizes: a metric, reduced over iterations and seeds."""

    metric: str = "reward_mean"
    mode: Literal["max", "min"] = "max"
    over_seeds: Literal["mean", "median", "min", "max", "std", "ci_low", "ci_high"] = "mean"
    at: Literal["last", "best"] | Annotated[int, Field(ge=0)] = "last"
    """The iteration: the last, the one where the objective is best, or its number."""


class EarlyStopConfig(Strict):
    """Stops a trial whose objective falls behind that of the trials before it."""

    after: int = Field(2, ge=0)
    """First iteration at which a trial may be stopped."""
    quantile: Finite = Field(0.5, gt=0, lt=1)
    """A trial below this quantile of the earlier trials at the same iteration is stopped."""
    min_trials: PositiveInt = 5
    """Earlier trials needed for a comparison."""


class SearchConfig(Strict):
    """Which keys a sweep varies, and how their values are chosen."""

    space: dict[str, Dimension] = Field(default_factory=dict)
    sampler: Literal["grid", "random", "tpe", "gp", "qmc"] = "grid"
    objective: tuple[ObjectiveConfig, ...] = Field((ObjectiveConfig(),), min_length=1)
    trials: PositiveInt | None = None
    """Points of a sampler other than grid."""
    concurrency: PositiveInt = 4
    """Suggestion i waits for the results of points 0 to i - concurrency, and sees no others."""
    seed: int = Field(0, ge=0)
    """Seed of the sampler."""
    early_stop: EarlyStopConfig | None = None

    @property
    def learns_values(self) -> bool:
        """Whether the results of earlier points decide which come later."""
        return self.sampler in ("tpe", "gp")

    @property
    def learns(self) -> bool:
        """Whether results of earlier points influence later ones, be it only when they stop."""
        return self.learns_values or self.early_stop is not None

    @model_validator(mode="before")
    @classmethod
    def _split_space(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "space" in given:
            return given
        options = {key: value for key, value in given.items() if key in cls.model_fields}
        if isinstance(options.get("objective"), Mapping):
            options["objective"] = [options["objective"]]
        searched = {key: value for key, value in given.items() if key not in cls.model_fields}
        return options | {"space": dict(_dimensions(searched))}

    @model_validator(mode="after")
    def _consistent(self) -> SearchConfig:
        for key, dimension in self.space.items():
            if key.split(".")[0] in NOT_SEARCHED:
                raise ValueError(f"{key}=null: cannot be searched; every point has the same")
            if self.sampler == "grid" and dimension.values is None:
                raise ValueError(f"sampler=grid: needs {key} as a grid or choice of values")
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"trials=null: must be given with sampler={self.sampler}")
        if self.sampler == "grid" and self.trials is not None:
            raise ValueError(f"trials={self.trials}: a grid runs every point; drop it")
        if self.early_stop and len(self.objective) > 1:
            raise ValueError("early_stop=null: works with one objective")
        return self


def _dimensions(given: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and their dimensions: `learner: {lr: {grid: ...}}` is `learner.lr`."""
    found = []
    for key, value in given.items():
        path = f"{prefix}{key}"
        nested = isinstance(value, Mapping) and not set(value) & set(Dimension.model_fields)
        if nested and value:
            found += _dimensions(value, f"{path}.")
        elif not isinstance(value, Mapping | Dimension):
            allowed = [*SearchConfig.model_fields, *Dimension.model_fields]
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            fields = ", ".join(Dimension.model_fields)
            raise ValueError(f"{path}={value!r}: a searched key takes one of {fields}{hint}")
        else:
            found.append((SHORT_KEYS.get(path, path), value))
    return found
