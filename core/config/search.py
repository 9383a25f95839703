"""The part `search` of a configuration: which points a sweep has, and what they are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from luceloop.core.errors import ConfigError, closest
from luceloop.core.fields import AtMost, Finite, PositiveInt, Strict

SHORT_KEYS = {"beta": "curation.beta", "k": "curation.k"}
"""Names that searches and overrides may use for the keys every sweep varies."""

MOST_POINTS = 100_000
"""Points of a sweep; each is a trial, and a run of the tracking store."""

Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""A whole number that floating point has exactly."""

Seed = Annotated[int, Field(ge=0, strict=True), AtMost(2**32 - 1, f"must be less than {2**32}")]
"""What the samplers take for a seed."""

NOT_SEARCHED = ("search", "seeds", "name", "description", "resources", "budget", "notify")
"""Keys that are the same for every point."""


class Dimension(Strict):
    """The values a searched key takes: exactly one of the fields."""

    grid: list[Any] | None = Field(None, min_length=1)
    choice: list[Any] | None = Field(None, min_length=1)
    uniform: tuple[Finite, Finite] | None = None
    loguniform: tuple[Finite, Finite] | None = None
    integers: tuple[Whole, Whole] | None = None

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
    seed: Annotated[
        int, Field(ge=0, strict=True), AtMost(2**32 - 1, f"must be less than {2**32}")
    ] = 0
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
        return options | {"space": _dimensions(given)}

    @model_validator(mode="after")
    def _consistent(self) -> SearchConfig:
        for key, dimension in self.space.items():
            if key.split(".")[0] in NOT_SEARCHED:
                raise ConfigError(key, None, "cannot be searched; every point has the same")
            if self.sampler == "grid" and dimension.values is None:
                raise ConfigError("sampler", "grid", f"needs {key} as a grid or choice of values")
        if self.sampler != "grid" and self.trials is None:
            raise ConfigError("trials", None, f"must be given with sampler={self.sampler}")
        if self.sampler == "grid" and self.trials is not None:
            raise ConfigError("trials", self.trials, "a grid runs every point; drop it")
        if self.early_stop and len(self.objective) > 1:
            raise ConfigError("early_stop", None, "works with one objective")
        return self


def _dimensions(given: Mapping[str, Any]) -> dict[str, Any]:
    """The searched keys of a search, by their full names, each a dimension."""
    found = by_full_name(searched_keys(given))
    for key, value in found.items():
        if not isinstance(value, Mapping | Dimension):
            ranges = list(Dimension.model_fields)
            hint = closest(key.rpartition(".")[2], [*SearchConfig.model_fields, *ranges])
            allowed = f"a searched key takes one of {', '.join(ranges)}{hint}"
            raise ConfigError(key, value, allowed)
    return found


def searched_keys(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a search says of keys, its options left out: `learner: {lr: ...}` is `learner.lr`."""
    searched = {key: value for key, value in given.items() if key not in SearchConfig.model_fields}
    return list(_unfolded(searched))


def _unfolded(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        nested = isinstance(value, Mapping) and not set(value) & set(Dimension.model_fields)
        if nested and value:
            yield from _unfolded(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def by_full_name(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by the full names of keys that may be short.

    Raises:
        ConfigError: if a key stands there in two spellings, whose values could differ.
    """
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for key, value in given:
        full = SHORT_KEYS.get(key, key)
        if full in found:
            both = " and as ".join(dict.fromkeys([spelled[full], key]))
            raise ConfigError(full, value, f"is given twice, as {both}; drop one")
        found[full], spelled[full] = value, key
    return found
