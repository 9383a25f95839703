"""The configuration of one point: all that a loop needs to know."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from luceloop.core.classifier.base import ClassifierConfig
from luceloop.core.classifier.kinds import CLASSIFIERS
from luceloop.core.config.parts import (
    CurationConfig,
    QualityConfig,
    ResourcesConfig,
    SamplingConfig,
    TrainingConfig,
)
from luceloop.core.config.users import Picker, User, pickers_of, rewards_of, users_of
from luceloop.core.custom_metrics import CustomMetrics
from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.kinds import DATASETS
from luceloop.core.fields import PositiveInt, Strict, flatten, named_files
from luceloop.core.learners.base import LearnerConfig
from luceloop.core.learners.kinds import LEARNERS
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.rewards.base import RewardConfig
from luceloop.core.rewards.kinds import REWARDS
from luceloop.core.rewards.mode_distance import ModeDistanceConfig

MOST_SEEDS = 10_000
"""The most seeds that a count may ask for; each is a row of every tensor and a run of a point."""


class PointConfig(Strict):
    """One point of a sweep, with all its seeds. Field names are keys of the sweep's YAML file."""

    data: Annotated[DatasetConfig, DATASETS]
    learner: Annotated[LearnerConfig, LEARNERS] = OTCFMConfig()
    classifier: Annotated[ClassifierConfig, CLASSIFIERS] | None = None
    """Of images: for rewards by class, class shares, and features."""
    reward: Annotated[RewardConfig, REWARDS] = ModeDistanceConfig()
    curation: CurationConfig = CurationConfig()
    lam: float = Field(math.inf, ge=0)
    """Synthetic : real ratio λ; inf retrains on kept samples alone, 0 on real ones alone."""
    training: TrainingConfig = TrainingConfig()
    iterations: int = Field(8, ge=0, le=10**6, strict=True)
    """Retrainings T; curves have T+1 values."""
    real_size: PositiveInt | None = None
    """Real samples n of each training set; data.size if not given."""
    kept_size: PositiveInt | None = None
    """Kept samples m of each training set; ⌊λn⌋ if not given."""
    pool_size: PositiveInt | None = None
    """Samples generated at each iteration; what the choices need if not given."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63, strict=True)], ...] = (0, 1, 2, 3, 4)
    """Replicates: a list, or a count n for 0 to n-1."""
    sampling: SamplingConfig = SamplingConfig()
    metrics: CustomMetrics = Field(default_factory=dict)
    """Further metrics: functions of the user's own, by the names they are recorded under."""
    quality: QualityConfig | None = None
    """How distances to the real data are measured; not at all if not given."""
    resources: ResourcesConfig = ResourcesConfig()
    keep: Literal["last", "none"] = "last"
    """Whether the last states are kept, from which `luceloop extend` goes on to more iterations."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds > MOST_SEEDS:
                raise ValueError(f"must be at most {MOST_SEEDS}, or a list")
            seeds = list(range(seeds))
        if not isinstance(seeds, list | tuple) or not seeds:
            raise ValueError("must be a count from 1 or a list of at least one seed")
        if len(set(map(str, seeds))) < len(seeds):
            raise ValueError("must not repeat a seed")
        return seeds

    @property
    def users(self) -> tuple[User, ...]:
        """Kinds of users and their shares; mostly one."""
        curation = self.curation
        return users_of(curation.users, self.reward, curation.beta, curation.flip)

    @property
    def pickers(self) -> tuple[Picker, ...]:
        """Who makes the choices: every user, and those who err."""
        return pickers_of(self.users)

    @property
    def rewards(self) -> tuple[RewardConfig, ...]:
        """The rewards that users differ in; the first is what metrics of one reward are of."""
        return tuple(rewards_of(self.users))

    @property
    def beta(self) -> float:
        """β, the reward's multiplicative factor: the first user's, where there are several."""
        return self.users[0].beta

    @property
    def taste(self) -> float | tuple[Picker, ...]:
        """What choices follow: β, or several pickers with β and shares."""
        return self.pickers if len(self.pickers) > 1 else self.beta

    @property
    def k(self) -> int | float:
        """K, the candidates per choice."""
        return self.curation.k

    def flat(self) -> dict[str, Any]:
        """Dotted keys and plain values, for tables and parameters."""
        plain = self.model_dump(mode="python")
        users = plain["curation"].get("users")
        if users:
            plain["curation"]["users"] = {str(i): user for i, user in enumerate(users)}
        return flatten(plain)

    def files(self) -> dict[str, str]:
        """The files that it names, by the dotted keys that name them."""
        return named_files(self)
