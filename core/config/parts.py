"""The parts of a point that have one kind: curation, training, sampling, quality, resources."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from luceloop.core.config.users import Beta, Flip, Users, shares_of
from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, Code, File, PositiveInt, Strict
from luceloop.core.io import plugins


def _parse_k(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lstrip(".").lower() in (
        "inf",
        "infinity",
        "∞",
    ):
        return math.inf
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
    if not whole or (value != math.inf and value != int(value)):
        raise ValueError("must be a whole number from 1, or inf")
    if value != math.inf and value > 10**9:
        raise ValueError("must be at most 10^9, or inf")
    return value if value == math.inf else int(value)


class CurationConfig(Strict):
    """How the kept samples are chosen from the pool."""

    kind: Code = "luce"
    """Luce's choice among K candidates (Bradley-Terry for K=2), or `package.module:attribute`."""
    k: Annotated[int | float, BeforeValidator(_parse_k)] = 2
    """Candidates per choice, K; inf draws from the whole pool."""
    beta: Beta = 1.0
    """Reward multiplicative factor; inf keeps the best of K, below 0 the worst are preferred."""
    flip: Flip = 0.0
    """Share of choices that err: they are made with -β."""
    users: Users | None = None
    """Kinds of users who like different things; one, with the reward and β above, if not given."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments that a kind of your own is called with."""

    @property
    def is_custom(self) -> bool:
        """Whether samples are kept by code of the user's own."""
        return self.kind != "luce"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind != "luce" and not re.fullmatch(plugins.PATTERN, kind):
            raise ValueError("must be luce, or package.module:attribute")
        return kind

    @model_validator(mode="after")
    def _consistent(self) -> CurationConfig:
        if self.users is not None:
            shares_of([user.weight for user in self.users])
        if self.is_custom and (self.users is not None or self.flip):
            unwanted = "flip" if self.users is None else "users"
            raise ConfigError("kind", self.kind, f"makes choices of its own; drop {unwanted}")
        if self.args and not self.is_custom:
            raise ConfigError("kind", self.kind, "takes no args")
        return self


UNUSED: dict[str, Any] = {"flip": 0.0, "users": None, "args": {}}
"""Keys of `CurationConfig` that most points do not use, as they then stand: what identifies a point
leaves them out, so that it is what it was before there were such keys."""


Synthetic = Literal["replace", "accumulate", "subsample"]
"""Which of the sets that were kept so far a retraining is given."""


class TrainingConfig(Strict):
    """What training sets are made of: which real samples, and which of the kept ones."""

    real: Literal["fixed", "fresh"] = "fixed"
    """Real samples: the same for every retraining of a seed, as in Algorithm 1, or new ones."""
    synthetic: Synthetic = "replace"
    """Kept samples: the last set, all sets so far, or as many as in one set, drawn from all."""


class ActorResources(Strict):
    """CPUs and GPUs of one actor; fractions share a device."""

    cpus: float | Literal["auto"] = "auto"
    gpus: float | Literal["auto"] = "auto"

    @field_validator("cpus", "gpus")
    @classmethod
    def _sensible(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value < math.inf:
            raise ValueError("must be a finite number from 0, or auto")
        return value


class ResourcesConfig(Strict):
    """What a trial and its samplers may use; but for `threads`, it changes no result."""

    samplers: Annotated[int, Field(ge=0, le=10_000)] | Literal["auto"] = "auto"
    """Sampler actors of a trial; with 0 the trial samples itself."""
    trial: ActorResources = ActorResources()
    sampler: ActorResources = ActorResources()
    pack: PositiveInt | Literal["auto"] = "auto"
    """Points of a trial that share one ensemble; large networks and samplers take one."""
    threads: Annotated[PositiveInt, AtMost(1024)] = 1
    """CPU threads of torch in every process; part of what determines the last bits of a result."""


class QualityConfig(Strict):
    """Distances to the real data: of vectors as they are, of images as a network sees them."""

    inception: File | None = None
    """Images: a file of FID's Inception weights; the classifier's features if not given."""
    samples: PositiveInt = 1000
    """Generated and real samples that precision, recall and sliced_wasserstein compare."""
    neighbours: PositiveInt = 3
    """How far the ball about a sample reaches: to so many nearest others."""
    every: PositiveInt = 1
    """Iterations from one measurement to the next; the first and the last are always measured."""

    @model_validator(mode="after")
    def _enough(self) -> QualityConfig:
        if self.samples <= self.neighbours:
            raise ConfigError("samples", self.samples, f"must exceed neighbours={self.neighbours}")
        return self


class SamplingConfig(Strict):
    """How a pool is generated."""

    shard_size: PositiveInt = 1024
    """Samples a sampler generates at a time; names random streams, so it determines results."""
    preview: Annotated[int, Field(ge=0), AtMost(100_000)] = 500
    """Samples per seed and iteration that are kept for figures."""
